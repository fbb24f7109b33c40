"""A factor's mixture prior along one axis of its u: densities with images below (Figures 7, 10), traversals (6b, 8)."""

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
from partedvae.training.figures.context import Subject
from partedvae.training.figures.latents import REACH, Latents, decode, replace_u, u_slice
from partedvae.training.figures.layout import LINE, TEXT, Panel, balanced, draw_panels
from partedvae.training.model.distributions import Gaussian

COLUMNS = 11
"""Images along an axis."""
BASES = 2
"""Test images whose z, and u of the other factors, the images have."""
DENSITY_HEIGHT = 190
"""Pixels of a plot of densities."""
POINTS = 600
"""Points of a density's curve."""
LEGEND_CHARACTERS = 80
"""About how many characters of class names fit side by side above the densities."""


class FactorAxis(NamedTuple):
    """One axis of u_k, from the lowest mode's lower end to the highest mode's upper end."""

    dim: int
    """Which dimension of u_k: the one in which the modes differ most."""
    mean: Float[Tensor, " classes"]
    """The modes' means along it."""
    deviation: Float[Tensor, " classes"]
    """The modes' standard deviations along it."""

    def values(self, count: int) -> Float[Tensor, " count"]:
        """Return evenly spaced values over REACH standard deviations of all modes."""
        low = (self.mean - REACH * self.deviation).min().item()
        high = (self.mean + REACH * self.deviation).max().item()
        return torch.linspace(low, high, count)

    def densities(self, prior: tuple[float, ...], values: Float[Tensor, " points"]) -> Float[Tensor, "classes points"]:
        """Return p(c) p(u | c) of every class along the axis: together they integrate to one."""
        distance = (values - self.mean[:, None]) / self.deviation[:, None]
        scale = torch.tensor(prior) / (self.deviation * math.sqrt(2 * math.pi))
        return scale[:, None] * torch.exp(-0.5 * distance.square())


def separating_axis(modes: Gaussian) -> FactorAxis:
    """Return the axis along which the means differ most, measured in the modes' own standard deviations."""
    variance = modes.logvar.exp()
    dim = int((modes.mean.var(dim=0, correction=0) / variance.mean(dim=0)).argmax())
    return FactorAxis(dim, modes.mean[:, dim], variance[:, dim].sqrt())


def along(
    axis: FactorAxis, modes: Gaussian, prior: tuple[float, ...], values: Float[Tensor, " columns"]
) -> Float[Tensor, "columns u_k_dim"]:
    """Return a u_k for each value; the dimensions off the axis have the mean of the class that is likeliest there."""
    likeliest = axis.densities(prior, values).argmax(dim=0)
    u = modes.mean[likeliest]
    u[:, axis.dim] = values
    return u


def prior_density(subject: Subject) -> Figure:
    """Figures 7 and 10: each factor's modes scaled by p(c), and images along the axis."""
    panels = []
    for k, factor in enumerate(subject.factors):
        axis = separating_axis(subject.modes(k))
        values = axis.values(COLUMNS)
        name = factor.name + (f": u{axis.dim} of {factor.u_dim}" if factor.u_dim > 1 else "")
        panels.append(
            Panel(
                images=_images_along(subject, k, axis, values),
                title=name,
                column_labels=[signed(value) for value in values.tolist()],
                plot=_DensityPlot(axis, factor),
                plot_height=DENSITY_HEIGHT,
            )
        )
    several = any(factor.u_dim > 1 for factor in subject.factors)
    return draw_panels(
        panels,
        title="The mixture prior of u",
        note="Above, p(c) p(u | c), the density of each class's mode; below, images with the u of the dotted line "
        "above them, and all else of a test image, one a row."
        + (" Dimensions of u that are not shown are those of the class that is likeliest there." if several else "")
        + " (The paper's Figures 7 and 10.)",
        across=balanced(len(panels), 2),
    )


def factors(subject: Subject) -> Figure:
    """Figures 6b and 8: for each factor, test images whose u_k goes over the whole range of its prior."""
    panels = []
    for k, factor in enumerate(subject.factors):
        axis = separating_axis(subject.modes(k))
        values = axis.values(COLUMNS)
        panels.append(
            Panel(
                images=_images_along(subject, k, axis, values),
                title=factor.name,
                plot=_ModesPlot(axis, factor),
                plot_height=LINE * len(factor.classes) + 8,
            )
        )
    return draw_panels(
        panels,
        title="Traversals of the u of each factor",
        note="For each factor, its u goes over the range of its prior; all else stays as in a test image, one a row. "
        "The bars are the modes of the prior: mean and standard deviation of each class. "
        "(The paper's Figures 6b and 8.)",
        across=balanced(len(panels), 2),
    )


def signed(value: float) -> str:
    """Return a number with one decimal, with a true minus, and without one where it rounds to 0."""
    return f"{round(value, 1) + 0.0:.1f}".replace("-", "−")


def _images_along(subject: Subject, k: int, axis: FactorAxis, values: Float[Tensor, " columns"]) -> Tensor:
    u = along(axis, subject.modes(k), subject.factors[k].prior, values)
    bases = [replace_u(base.latents, u_slice(subject.config.model, k), u) for base in subject.bases(BASES)]
    latents = Latents(torch.stack([base.u for base in bases]), torch.stack([base.z for base in bases]))
    return decode(subject.model, latents)


@dataclass(frozen=True)
class _DensityPlot:
    """Draws the densities of a factor so that values stand above their images."""

    axis: FactorAxis
    factor: FactorConfig

    def __call__(self, axes: Axes) -> None:
        """Draw, over an x axis that counts columns."""
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
        # Room for each line of the legend above the highest peak.
        axes.set_ylim(0, (1.2 + 0.2 * math.ceil(count / across)) * densities.max().item())
        _bare(axes, "left", "right", "top")
        axes.legend(loc="upper center", ncols=across, fontsize=10, handlelength=1.2)


@dataclass(frozen=True)
class _ModesPlot:
    """Draws a bar for each class, one a line so that their names cannot collide."""

    axis: FactorAxis
    factor: FactorConfig

    def __call__(self, axes: Axes) -> None:
        """Draw, over an x axis that counts columns."""
        first, last = self.axis.values(2).tolist()
        count = len(self.factor.classes)
        for i, name in enumerate(self.factor.classes):
            colour = class_colour(i, count)
            centre = (self.axis.mean[i].item() - first) / (last - first) * (COLUMNS - 1)
            half = self.axis.deviation[i].item() / (last - first) * (COLUMNS - 1)
            axes.plot([centre - half, centre + half], [i, i], color=colour, linewidth=3, solid_capstyle="butt")
            axes.plot([centre], [i], color=colour, marker="o", markersize=6)
            # On the side that has more room.
            right = centre < COLUMNS / 2
            x = centre + half + 0.15 if right else centre - half - 0.15
            axes.text(x, i, name, ha="left" if right else "right", va="center", fontsize=TEXT)
        axes.set_ylim(count - 0.4, -0.6)
        _bare(axes, "left", "right", "top", "bottom")


def _bare(axes: Axes, *sides: str) -> None:
    """Take ticks, and the lines of some sides, away."""
    axes.set_xticks([])
    axes.set_yticks([])
    for side in sides:
        axes.spines[side].set_visible(False)


def class_colour(index: int, count: int) -> tuple[float, float, float, float]:
    """Return a colour for a class: easily told apart up to ten, then along the rainbow."""
    return colormaps["tab10"](index) if count <= 10 else colormaps["turbo"](index / (count - 1))
