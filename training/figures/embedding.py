"""Scatter plots of u and z of the test images: u should form one cluster per class, z should not."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from partedvae.training.config.architecture import FactorConfig
from partedvae.training.figures.context import FigureContext
from partedvae.training.figures.factor_axes import class_colour
from partedvae.training.figures.latents import u_slice
from partedvae.training.figures.layout import TEXT, TITLE, constrained_figure

PAIR_SIZE = (13.5, 5.8)
"""Width and height in inches of one factor's plots of u and z; smaller where there are several factors."""
BINS = 50
"""Bins of a histogram over all classes."""


class Plane(NamedTuple):
    """Points projected to their two principal components."""

    points: Float[np.ndarray, "images 2"]
    """The coordinates."""
    axis_names: tuple[str, str]
    """Labels of the two axes, with their shares of the variance."""


def embedding(context: FigureContext) -> Figure:
    """Draw u_k and z of the test images for each factor, coloured by class."""
    encoded, count = context.encoded, len(context.factors)
    pairs_across = 1 if count == 1 else 2
    lines = -(-count // pairs_across)
    figure = constrained_figure(PAIR_SIZE[0], PAIR_SIZE[1] / pairs_across * 1.15 * lines + 1.0, w_pad=0.08, h_pad=0.08)
    figure.suptitle("Class-related u and class-independent z of test images", fontsize=TITLE, fontweight="bold")
    figure.supxlabel(
        "Each point is the posterior mean of a test image, in the plane of the two principal components (in brackets, "
        "their share of the variance).\n"
        "The projection does not use the classes; classes that overlap here may be separate in other dimensions.",
        fontsize=TEXT,
        color="0.3",
    )
    grid = figure.subplots(lines, 2 * pairs_across, squeeze=False).flatten()
    for k, factor in enumerate(context.factors):
        labels = encoded.classes(k).numpy()
        left, right = grid[2 * k], grid[2 * k + 1]
        u = encoded.u[:, u_slice(context.config.model, k)].numpy()
        _draw(left, f"u of {factor.name}", u, labels, factor)
        _draw(right, f"z, by {factor.name}", encoded.z.mean.numpy(), labels, factor)
        handles, names = left.get_legend_handles_labels()
        large = 3 if factor.u_dim > 1 else 1
        right.legend(handles, names, fontsize=TEXT - 1, markerscale=large, loc="center left", bbox_to_anchor=(1.0, 0.5))
    for axes in grid[2 * count :]:
        axes.set_axis_off()
    return figure


def principal_plane(features: Float[np.ndarray, "images dims"]) -> Plane:
    """Project features of at least two dimensions to their two principal components."""
    if (features == features[0]).all():
        # A collapsed encoder or a single image: there is no variance to explain.
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
    """Draw a scatter plot, or one histogram per class of one-dimensional features."""
    count = len(factor.classes)
    if features.shape[1] == 1:
        edges = np.histogram_bin_edges(features, BINS)
        for i, name in enumerate(factor.classes):
            axes.hist(features[labels == i, 0], edges.tolist(), color=class_colour(i, count), alpha=0.6, label=name)
        names = ("value", "images")
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
