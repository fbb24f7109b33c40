"""The mixture prior of a factor along one axis of its u: densities (Figures 7, 10) and traversals (6b, 8)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from partedvae.training.config.architecture import FactorConfig
from partedvae.training.figures.context import FigureContext
from partedvae.training.figures.latents import REACH, Latents, decode, replace_u, u_slice
from partedvae.training.figures.layout import LINE, TEXT, Panel, balanced, draw_panels
from partedvae.training.model.distributions import Gaussian

COLUMNS = 11
"""Number of images along an axis."""
BASES = 2
"""Number of test images that provide z and the u of the other factors."""
DENSITY_HEIGHT = 190
"""Height of a plot of densities, in pixels."""
POINTS = 600
"""Number of points of a density curve."""
LEGEND_CHARACTERS = 80
"""Approximate number of characters of class names that fit side by side above the densities."""


class FactorAxis(NamedTuple):
    """One axis of u_k, over the range of all modes of its prior."""

    dim: int
    """Index of the dimension of u_k."""
    mean: Float[Tensor, " classes"]
    """Means of the modes along the axis."""
    deviation: Float[Tensor, " classes"]
    """Standard deviations of the modes along the axis."""

    def values(self, count: int) -> Float[Tensor, " count"]:
        """Return evenly spaced values that cover REACH standard deviations around every mode."""
        low = (self.mean - REACH * self.deviation).min().item()
        high = (self.mean + REACH * self.deviation).max().item()
        return torch.linspace(low, high, count)

    def densities(self, prior: tuple[float, ...], values: Float[Tensor, " points"]) -> Float[Tensor, "classes points"]:
        """Return p(c) p(u | c) of every class along the axis; the sum over classes integrates to one."""
        distance = (values - self.mean[:, None]) / self.deviation[:, None]
        scale = torch.tensor(prior) / (self.deviation * math.sqrt(2 * math.pi))
        return scale[:, None] * torch.exp(-0.5 * distance.square())


def separating_axis(modes: Gaussian) -> FactorAxis:
    """Return the axis with the largest variance of the means relative to the variance of the modes."""
    variance = modes.logvar.exp()
    dim = int((modes.mean.var(dim=0, correction=0) / variance.mean(dim=0)).argmax())
    return FactorAxis(dim, modes.mean[:, dim], variance[:, dim].sqrt())


def along(
    axis: FactorAxis, modes: Gaussian, prior: tuple[float, ...], values: Float[Tensor, " columns"]
) -> Float[Tensor, "columns u_k_dim"]:
    """Return one u_k per value; its other dimensions are at the mean of the class that is most likely there."""
    most_likely = axis.densities(prior, values).argmax(dim=0)
    u = modes.mean[most_likely]
    u[:, axis.dim] = values
    return u


def prior_density(context: FigureContext) -> Figure:
    """Draw Figures 7 and 10: the modes of each factor scaled by p(c), and images along the axis."""
    panels = []
    for k, factor in enumerate(context.factors):
        axis = separating_axis(context.modes(k))
        values = axis.values(COLUMNS)
        name = factor.name + (f": u{axis.dim} of {factor.u_dim}" if factor.u_dim > 1 else "")
        panels.append(
            Panel(
                images=_images_along(context, k, axis, values),
                title=name,
                column_labels=[signed(value) for value in values.tolist()],
                plot=_DensityPlot(axis, factor),
                plot_height=DENSITY_HEIGHT,
            )
        )
    several = any(factor.u_dim > 1 for factor in context.factors)
    return draw_panels(
        panels,
        title="The mixture prior of u",
        note="Above, p(c) p(u | c), the density of each class's mode; below, images with the u of the dotted line "
        "above them, and all other latents of a test image, one test image per row."
        + (" Dimensions of u that are not shown are at the mean of the most likely class." if several else "")
        + " (The paper's Figures 7 and 10.)",
        across=balanced(len(panels), 2),
    )


def factors(context: FigureContext) -> Figure:
    """Draw Figures 6b and 8: for each factor, test images whose u_k covers the range of its prior."""
    panels = []
    for k, factor in enumerate(context.factors):
        axis = separating_axis(context.modes(k))
        values = axis.values(COLUMNS)
        panels.append(
            Panel(
                images=_images_along(context, k, axis, values),
                title=factor.name,
                plot=_ModesPlot(axis, factor),
                plot_height=LINE * len(factor.classes) + 8,
            )
        )
    return draw_panels(
        panels,
        title="Traversals of the u of each factor",
        note="For each factor, u covers the range of its prior; all other latents are those of a test image, one test "
        "image per row. The bars are the modes of the prior: mean and standard deviation of each class. "
        "(The paper's Figures 6b and 8.)",
        across=balanced(len(panels), 2),
    )


def signed(value: float) -> str:
    """Format a number with one decimal and a typographic minus; zero has no sign."""
    return f"{round(value, 1) + 0.0:.1f}".replace("-", "−")


def _images_along(context: FigureContext, k: int, axis: FactorAxis, values: Float[Tensor, " columns"]) -> Tensor:
    u = along(axis, context.modes(k), context.factors[k].prior, values)
    bases = [replace_u(base.latents, u_slice(context.config.model, k), u) for base in context.bases(BASES)]
    latents = Latents(torch.stack([base.u for base in bases]), torch.stack([base.z for base in bases]))
    return decode(context.model, latents)


@dataclass(frozen=True)
class _DensityPlot:
    """Draws the densities of a factor, with values aligned to the images below."""

    axis: FactorAxis
    factor: FactorConfig

    def __call__(self, axes: Axes) -> None:
        """Draw on axes whose x coordinate is the column index."""
        columns = torch.linspace(-0.5, COLUMNS - 0.5, POINTS)
        first, last = self.axis.values(2).tolist()
        values = first + (last - first) * columns / (COLUMNS - 1)
        densities = self.axis.densities(self.factor.prior, values)
        count = len(self.factor.classes)
        for i, (name, density) in enumerate(zip(self.factor.classes, densities, strict=True)):
            axes.plot(columns.numpy(), density.numpy(), color=class_colour(i, count), linewidth=1.6, label=name)
            axes.fill_between(columns.numpy(), density.numpy(), color=class_colour(i, count), alpha=0.2, linewidth=0)
        for column in range(COLUMNS):
            axes.axvline(column, color="0.5", linestyle=":", linewidth=1, zorder=0)
        across = balanced(count, max(1, LEGEND_CHARACTERS // (max(map(len, self.factor.classes)) + 5)))
        # Leave space for the legend above the highest peak.
        axes.set_ylim(0, (1.2 + 0.2 * math.ceil(count / across)) * densities.max().item())
        _bare(axes, "left", "right", "top")
        axes.legend(loc="upper center", ncols=across, fontsize=10, handlelength=1.2)


@dataclass(frozen=True)
class _ModesPlot:
    """Draws one bar per class, one below the other so that their names cannot overlap."""

    axis: FactorAxis
    factor: FactorConfig

    def __call__(self, axes: Axes) -> None:
        """Draw on axes whose x coordinate is the column index."""
        first, last = self.axis.values(2).tolist()
        count = len(self.factor.classes)
        for i, name in enumerate(self.factor.classes):
            colour = class_colour(i, count)
            centre = (self.axis.mean[i].item() - first) / (last - first) * (COLUMNS - 1)
            half = self.axis.deviation[i].item() / (last - first) * (COLUMNS - 1)
            axes.plot([centre - half, centre + half], [i, i], color=colour, linewidth=3, solid_capstyle="butt")
            axes.plot([centre], [i], color=colour, marker="o", markersize=6)
            # On the side with more space.
            right = centre < COLUMNS / 2
            x = centre + half + 0.15 if right else centre - half - 0.15
            axes.text(x, i, name, ha="left" if right else "right", va="center", fontsize=TEXT)
        axes.set_ylim(count - 0.4, -0.6)
        _bare(axes, "left", "right", "top", "bottom")


def _bare(axes: Axes, *sides: str) -> None:
    """Remove the ticks, and the spines of some sides."""
    axes.set_xticks([])
    axes.set_yticks([])
    for side in sides:
        axes.spines[side].set_visible(False)


def class_colour(index: int, count: int) -> tuple[float, float, float, float]:
    """Return the colour of a class: a qualitative palette for up to ten classes, a colour map for more."""
    return colormaps["tab10"](index) if count <= 10 else colormaps["turbo"](index / (count - 1))
