"""Computes one projection by t-SNE or UMAP in a process of its own, which can be ended at any time.

    python -m partedvae.serving.explore.features.projection_worker METHOD FEATURES.npy POSITIONS.npy

Standard output has a line with the share that is done, from 0 to 1, whenever it changes.
"""

from __future__ import annotations

import io
import re
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout

import numpy as np

from partedvae.results import FloatArray
from partedvae.serving.explore.features.projections import SEED

ITERATIONS = 1000
"""Of t-SNE, the default of scikit-learn."""
_TSNE_PROGRESS = re.compile(r"Iteration (\d+):")
_UMAP_PROGRESS = re.compile(r"(\d+)/(\d+)")


class _Listener(io.TextIOBase):
    """Receives what a library prints, and reports the progress in it."""

    def __init__(self, done: Callable[[str], float | None], report: Callable[[float], None]) -> None:
        self._done = done
        self._report = report

    def write(self, text: str) -> int:
        done = self._done(text)
        if done is not None:
            self._report(done)
        return len(text)


def tsne(features: FloatArray, report: Callable[[float], None]) -> FloatArray:
    """Return positions [points, 2] by Barnes-Hut t-SNE (van der Maaten, 2014), from the positions of PCA."""
    from sklearn.manifold import TSNE

    def done(text: str) -> float | None:
        found = _TSNE_PROGRESS.search(text)
        return int(found[1]) / ITERATIONS if found else None

    perplexity = min(30.0, (len(features) - 1) / 3)
    embedding = TSNE(
        n_components=2,
        perplexity=perplexity,
        init="pca",
        max_iter=ITERATIONS,
        random_state=SEED,
        n_jobs=-1,
        verbose=2,
    )
    with redirect_stdout(_Listener(done, report)):
        return np.asarray(embedding.fit_transform(features), dtype=np.float32)


def umap(features: FloatArray, report: Callable[[float], None]) -> FloatArray:
    """Return positions [points, 2] by UMAP (McInnes et al., 2018)."""
    from umap import UMAP

    def done(text: str) -> float | None:
        found = _UMAP_PROGRESS.search(text)
        return int(found[1]) / int(found[2]) if found else None

    listener = _Listener(done, report)
    with redirect_stdout(listener), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_jobs value")  # With a seed it runs in one thread.
        embedding = UMAP(
            n_components=2,
            n_neighbors=min(15, len(features) - 1),
            random_state=SEED,
            verbose=True,
            tqdm_kwds={"file": listener, "mininterval": 0.5},
        )
        return np.asarray(embedding.fit_transform(features), dtype=np.float32)


def main(method: str, source: str, destination: str) -> None:
    """Read features, project them, and write their positions."""
    output = sys.stdout

    def report(share: float) -> None:
        print(f"{share:.3f}", file=output, flush=True)

    project = {"tsne": tsne, "umap": umap}[method]
    report(0.0)
    np.save(destination, project(np.load(source), report))


if __name__ == "__main__":
    main(*sys.argv[1:])
