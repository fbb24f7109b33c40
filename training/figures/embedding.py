"""u against z of the test images, coloured by class: u should fall into a cloud for each class, and z should not."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from training.config import FactorConfig
from training.figures.factor_axes import class_colour
from training.figures.latents import u_slice
from training.figures.layout import DPI, TEXT, TITLE
from training.figures.subject import Subject

PAIR_SIZE = (13.5, 5.8)
"""Inches of u and z of one factor side by side; smaller where there are many factors."""


class Plane(NamedTuple):
    """Points in the plane of their two principal components."""

    points: Float[np.ndarray, "images 2"]
    """The coordinates."""
    axis_names: tuple[str, str]
    """What the two axes are, with their shares of the variance."""


def embedding(subject: Subject) -> Figure:
    """u_k and z of the test images by factor, coloured by the class."""
    encoded, count = subject.encoded, len(subject.factors)
    pairs_across = 1 if count == 1 else 2
    lines = -(-count // pairs_across)
    size = (PAIR_SIZE[0], PAIR_SIZE[1] / pairs_across * 1.15 * lines + 1.0)
    figure = Figure(figsize=size, dpi=DPI, facecolor="white", layout="constrained")
    figure.suptitle("Class-related u and class-independent z of test images", fontsize=TITLE, fontweight="bold")
    figure.supxlabel(
        "Each point is the posterior mean of a test image, in the plane of the two principal components (their share of the "
        "variance in brackets).\nNothing was fitted to the classes; those that overlap here may be apart in other dimensions.",
        fontsize=TEXT,
        color="0.3",
    )
    grid = figure.subplots(lines, 2 * pairs_across, squeeze=False).flatten()
    z_plane = principal_plane(encoded.z.mean.numpy(), subject.seed)
    for k, factor in enumerate(subject.factors):
        u = encoded.u[:, u_slice(subject.config.model, k)].numpy()
        labels = encoded.classes(k).numpy()
        left, right = grid[2 * k], grid[2 * k + 1]
        _scatter(left, f"u of {factor.name}", principal_plane(u, subject.seed), labels, factor)
        _scatter(right, f"z, by {factor.name}", z_plane, labels, factor)
        handles, names = left.get_legend_handles_labels()
        right.legend(handles, names, fontsize=TEXT - 1, markerscale=3, loc="center left", bbox_to_anchor=(1.0, 0.5))
    for axes in grid[2 * count :]:
        axes.set_axis_off()
    return figure


def principal_plane(features: Float[np.ndarray, "images dims"], seed: int) -> Plane:
    """Project features to their two principal components; one feature alone is spread out by noise to be seen."""
    if features.shape[1] == 1:
        noise = np.random.default_rng(seed).uniform(-1, 1, len(features)).astype(features.dtype)
        return Plane(np.stack([features[:, 0], noise], axis=1), ("its one dimension", "(noise, to be seen)"))
    pca = PCA(n_components=2, svd_solver="full")
    points = pca.fit_transform(features)
    # Where all features are constant there is no variance to have a share of.
    total = features.var(axis=0, ddof=1).sum()
    shares = pca.explained_variance_ / total if total > 0 else np.zeros(2)
    return Plane(points, (f"component 1 ({shares[0]:.0%})", f"component 2 ({shares[1]:.0%})"))


def _scatter(axes: Axes, title: str, plane: Plane, labels: Int[np.ndarray, " images"], factor: FactorConfig) -> None:
    for i, name in enumerate(factor.classes):
        points = plane.points[labels == i]
        axes.scatter(
            points[:, 0], points[:, 1], s=5, color=class_colour(i, len(factor.classes)), label=name, linewidths=0
        )
    axes.set_title(title, fontsize=TEXT + 1, parse_math=False)
    axes.set_xlabel(plane.axis_names[0], fontsize=TEXT)
    axes.set_ylabel(plane.axis_names[1], fontsize=TEXT)
    axes.tick_params(labelsize=TEXT - 2)
