"""Projections of features to two dimensions: PCA here, t-SNE and UMAP in `projection_worker`, a process of its own.

All have a fixed seed: the same points and method make the same map.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from partedvae.results import FloatArray

Method = Literal["pca", "tsne", "umap"]
METHODS: tuple[Method, ...] = get_args(Method)
TITLES: dict[Method, str] = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
SEED = 0
FEWEST = 10
"""Points that t-SNE and UMAP need."""
SAMPLES = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000)
"""Numbers of points to choose from for t-SNE and UMAP, beside all."""
DEFAULT_SAMPLE = 2_000
_PACKAGES: dict[Method, tuple[str, str]] = {
    "tsne": ("sklearn", "pip install 'partedvae[explore]'"),
    "umap": ("umap", "pip install umap-learn"),
}


def unavailable(method: Method) -> str | None:
    """Return why a method cannot be used here, with the remedy; None if it can be."""
    if method not in _PACKAGES:
        return None
    module, remedy = _PACKAGES[method]
    return None if find_spec(module) else f"{TITLES[method]} is not installed: {remedy}"


def pca(features: FloatArray) -> tuple[FloatArray, float]:
    """Project onto the two directions of the largest variance.

    Args:
        features: [points, dimensions].

    Returns:
        Positions, float32 [points, 2]; and their share of the variance. Of one dimension, the second coordinate is
        random, so that the points do not hide one another.
    """
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    if features.shape[1] == 1:
        height = float(np.abs(centred).max()) or 1.0
        jitter = np.random.default_rng(SEED).uniform(-height / 4, height / 4, len(features))
        return np.stack([centred[:, 0], jitter], axis=1).astype(np.float32), 1.0
    variances, directions = np.linalg.eigh(centred.T @ centred)
    two = directions[:, :-3:-1]
    # The sign of an eigenvector is arbitrary: its largest entry is positive.
    two = two * np.sign(two[np.abs(two).argmax(axis=0), [0, 1]])
    total = float(variances.sum())
    share = float(variances[-2:].sum()) / total if total > 0 else 1.0
    return (centred @ two).astype(np.float32), share


def sample(points: int, most: int) -> NDArray[np.int64]:
    """Return at most `most` of the points, ascending; the same ones each time."""
    if points <= most:
        return np.arange(points)
    return np.sort(np.random.default_rng(SEED).choice(points, most, replace=False))


def scattered(positions: FloatArray, chosen: NDArray[np.int64], points: int) -> FloatArray:
    """Return the positions of all points, NaN for those that were not chosen: float32 [points, 2]."""
    everywhere = np.full((points, 2), np.nan, dtype=np.float32)
    everywhere[chosen] = positions
    return everywhere


def fitted(positions: FloatArray) -> FloatArray:
    """Return positions within [-1, 1], centred and with the same scale in both directions; NaN stays NaN."""
    low, high = np.nanmin(positions, axis=0), np.nanmax(positions, axis=0)
    scale = float((high - low).max()) / 2 or 1.0
    return np.asarray((positions - (low + high) / 2) / scale, dtype=np.float32)
