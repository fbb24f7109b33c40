"""u against z of the test images, coloured by class: u should fall into a cloud for each class, and z should not."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from partedvae.training.config.architecture import FactorConfig
from partedvae.training.figures.context import Subject
from partedvae.training.figures.factor_axes import class_colour
from partedvae.training.figures.latents import u_slice
from partedvae.training.figures.layout import DPI, TEXT, TITLE

PAIR_SIZE = (13.5, 5.8)
"""Inches of u and z of one factor side by side; smaller where there are many factors."""
BINS = 50
"""Bins of a histogram, over all classes."""


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
    # Constrained layout, chosen above, has these; matplotlib's types speak of any engine or none.
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # type: ignore[union-attr, call-arg]  # it is the constrained one
    figure.suptitle("Class-related u and class-independent z of test images", fontsize=TITLE, fontweight="bold")
    figure.supxlabel(
        "Each point is the posterior mean of a test image, in the plane of the two principal components (in brackets, "
        "their share of the variance).\n"
        "Nothing was fitted to the classes; those that overlap here may be apart in other dimensions.",
        fontsize=TEXT,
        color="0.3",
    )
    grid = figure.subplots(lines, 2 * pairs_across, squeeze=False).flatten()
    for k, factor in enumerate(subject.factors):
        labels = encoded.classes(k).numpy()
        left, right = grid[2 * k], grid[2 * k + 1]
        u = encoded.u[:, u_slice(subject.config.model, k)].numpy()
        _draw(left, f"u of {factor.name}", u, labels, factor)
        _draw(right, f"z, by {factor.name}", encoded.z.mean.numpy(), labels, factor)
        handles, names = left.get_legend_handles_labels()
        large = 3 if factor.u_dim > 1 else 1
        right.legend(handles, names, fontsize=TEXT - 1, markerscale=large, loc="center left", bbox_to_anchor=(1.0, 0.5))
    for axes in grid[2 * count :]:
        axes.set_axis_off()
    return figure


def principal_plane(features: Float[np.ndarray, "images dims"]) -> Plane:
    """Project features of two dimensions or more to their two principal components."""
    if (features == features[0]).all():
        # A dead encoder, or a single image: no direction has any variance to have a share of.
        points, shares = np.zeros_like(features[:, :2]), np.zeros(2)
    else:
        pca = PCA(n_components=2, svd_solver="full")
        points = pca.fit_transform(features)
        shares = pca.explained_variance_ratio_
    return Plane(points, (f"component 1 ({shares[0]:.0%})", f"component 2 ({shares[1]:.0%})"))


def _draw(
    axes: Axes,
    title: str,
    features: Float[np.ndarray, "images dims"],
    labels: Int[np.ndarray, " images"],
    factor: FactorConfig,
) -> None:
    """Draw a scatter plot, or histograms of features that have one dimension."""
    count = len(factor.classes)
    if features.shape[1] == 1:
        edges = np.histogram_bin_edges(features, BINS)
        for i, name in enumerate(factor.classes):
            axes.hist(features[labels == i, 0], edges.tolist(), color=class_colour(i, count), alpha=0.6, label=name)
        names = ("its one dimension", "images")
    else:
        points, names = principal_plane(features)
        for i, name in enumerate(factor.classes):
            x, y = points[labels == i].T
            axes.scatter(x, y, s=5, color=class_colour(i, count), label=name, linewidths=0)
    axes.set_title(title, fontsize=TEXT + 1, parse_math=False)
    axes.set_xlabel(names[0], fontsize=TEXT)
    axes.set_ylabel(names[1], fontsize=TEXT)
    axes.locator_params(nbins=5)
    axes.tick_params(labelsize=TEXT - 2)
