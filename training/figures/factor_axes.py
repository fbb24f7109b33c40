"""The mixture prior of a factor along one axis of its u: densities (Figure 7) and traversals (6b)."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
DENSITY_NOTE = (
    "Above, p(c) p(u | c), the density of each class's mode; below, images with the u of the dotted line above them, "
    "and all other latents of a test image, one test image per row."
)
MODES_NOTE = (
    "For each factor, u covers the range of its prior; all other latents are those of a test image, one test image per "
    "row. The bars are the modes of the prior: mean and standard deviation of each class."
)
"""Explanations below the titles."""


class FactorAxis(NamedTuple):
    """One axis of u_k, over the range of all modes of its prior."""

    dim: int
    """Index of the dimension of u_k."""
    mean: Float[Tensor, " classes"]
    """Means of the modes along the axis."""
    deviation: Float[Tensor, " classes"]
    """Standard deviations of the modes along the axis."""
    limits: tuple[float, float] | None = None
    """First and last value; None covers REACH standard deviations around every mode."""

    def covered(self) -> tuple[float, float]:
        """Return the first and the last value."""
        low = (self.mean - REACH * self.deviation).min().item()
        high = (self.mean + REACH * self.deviation).max().item()
        return self.limits or (low, high)

    def values(self, count: int) -> Float[Tensor, " count"]:
        """Return evenly spaced values between the limits."""
        return torch.linspace(*self.covered(), count)

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
    """Draw Figure 7: the modes of each factor scaled by p(c), and images along the axis."""
    bases = [base.latents for base in context.bases(BASES)]
    panels = [density_panel(context, k, separating_axis(context.modes(k)), bases) for k in range(len(context.factors))]
    return draw_panels(
        panels,
        title="The mixture prior of u",
        note=f"{DENSITY_NOTE}{note_of_other_dimensions(context)} (The paper's Figure 7.)",
        across=balanced(len(panels), 2),
    )


def density_panel(
    context: FigureContext, k: int, axis: FactorAxis, bases: Sequence[Latents], suffix: str = ""
) -> Panel:
    """Return the densities of the modes of a factor above images along the axis.

    Args:
        context: the run.
        k: index of the factor.
        axis: the axis of its u.
        bases: latents of the test images that provide all other latents, one row each.
        suffix: text after the name of the factor.
    """
    factor, values = context.factors[k], axis.values(COLUMNS)
    name = factor.name + (f": u{axis.dim} of {factor.u_dim}" if factor.u_dim > 1 else "")
    return Panel(
        images=_images_along(context, k, axis, bases),
        title=name + suffix,
        column_labels=[signed(value) for value in values.tolist()],
        plot=_DensityPlot(axis, factor),
        plot_height=DENSITY_HEIGHT,
    )


def note_of_other_dimensions(context: FigureContext) -> str:
    """Return a sentence about the dimensions of u that a figure does not show, if there are any."""
    several = any(factor.u_dim > 1 for factor in context.factors)
    return " Dimensions of u that are not shown are at the mean of the most likely class." if several else ""


def factors(context: FigureContext) -> Figure:
    """Draw Figure 6b: for each factor, test images whose u_k covers the range of its prior."""
    bases = [base.latents for base in context.bases(BASES)]
    panels = [modes_panel(context, k, bases) for k in range(len(context.factors))]
    return draw_panels(
        panels,
        title="Traversals of the u of each factor",
        note=f"{MODES_NOTE} (The paper's Figure 6b.)",
        across=balanced(len(panels), 2),
    )


def modes_panel(context: FigureContext, k: int, bases: Sequence[Latents], suffix: str = "") -> Panel:
    """Return the modes of a factor as bars above images along the axis; the arguments are those of `density_panel`."""
    axis, factor = separating_axis(context.modes(k)), context.factors[k]
    return Panel(
        images=_images_along(context, k, axis, bases),
        title=factor.name + suffix,
        plot=_ModesPlot(axis, factor),
        plot_height=LINE * len(factor.classes) + 8,
    )


def signed(value: float) -> str:
    """Format a number with one decimal and a typographic minus; zero has no sign."""
    return f"{round(value, 1) + 0.0:.1f}".replace("-", "−")


def _images_along(context: FigureContext, k: int, axis: FactorAxis, bases: Sequence[Latents]) -> Tensor:
    u = along(axis, context.modes(k), context.factors[k].prior, axis.values(COLUMNS))
    varied = [replace_u(base, u_slice(context.config.model, k), u) for base in bases]
    latents = Latents(torch.stack([each.u for each in varied]), torch.stack([each.z for each in varied]))
    return decode(context.model, latents)


@dataclass(frozen=True)
class _DensityPlot:
    """Draws the densities of a factor, with values aligned to the images below."""

    axis: FactorAxis
    factor: FactorConfig

    def __call__(self, axes: Axes) -> None:
        """Draw on axes whose x coordinate is the column index."""
        columns = torch.linspace(-0.5, COLUMNS - 0.5, POINTS)
        first, last = self.axis.covered()
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
        first, last = self.axis.covered()
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
