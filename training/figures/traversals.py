"""Traversals of single latent dimensions: Figure 4 (z of an image, u of a class) and Figure 9 (z of each class)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from torch import Tensor

from partedvae.training.figures.context import Base, FigureContext
from partedvae.training.figures.latents import centred, decode, traverse_u, traverse_z, u_slice
from partedvae.training.figures.layout import Panel, balanced, draw_panels
from partedvae.training.model.distributions import Gaussian, kl_of_dimensions

COLUMNS = 9
"""Number of values of a dimension in Figure 4; odd, so that the middle one is the mean."""
COLUMNS_PER_CLASS = 7
"""Number of values of a dimension in Figure 9, where all classes share the page."""
BASES = 3
"""Number of images whose z is traversed."""
U_ROWS = 3
"""Number of dimensions of u shown for each class."""


def traversal_z(context: FigureContext) -> Figure:
    """Draw Figures 4a, 4b and 6a: each dimension of z of a test image from -REACH to REACH."""
    values = centred(COLUMNS)
    names = _with_information("z", kl_of_dimensions(context.encoded.z).mean(dim=0))
    panels = [
        Panel(
            images=decode(context.model, traverse_z(base.latents, values)),
            title=base.name,
            row_labels=names if position == 0 else (),
            column_labels=_ends(values),
        )
        for position, base in enumerate(in_order(context.bases(BASES)))
    ]
    return draw_panels(
        panels,
        title="Traversals of z, the class-independent features",
        note="Each row changes one dimension of z; all other latents are those of a test image of the class. In "
        "brackets, the KL of the dimension in nats: near 0, it is unused. (The paper's Figures 4a, 4b and 6a.)",
        across=len(panels),
    )


def traversal_u(context: FigureContext) -> Figure:
    """Draw Figure 4c: for each class, the dimensions of u that change the image most, around the mode of its prior.

    The classes of a factor whose u has one dimension share a panel, one row per class.
    """
    deviations = centred(COLUMNS)
    base, panels = context.prior_base(), []
    for k, factor in enumerate(context.factors):
        modes, where = context.modes(k), u_slice(context.config.model, k)
        images = [
            decode(context.model, traverse_u(base, where, Gaussian(mean, logvar), deviations))
            for mean, logvar in zip(modes.mean, modes.logvar, strict=True)
        ]
        if factor.u_dim == 1:
            panels.append(_u_panel(torch.cat(images), factor.name, factor.classes, deviations))
            continue
        for name, each in zip(factor.classes, images, strict=True):
            chosen = most_active(each)[:U_ROWS]
            rows = [f"u{dim}" for dim in chosen.tolist()]
            panels.append(_u_panel(each[chosen], f"{factor.name}: {name}", rows, deviations))
    return draw_panels(
        panels,
        title="Traversals of u, the class-related features",
        note="For each class, the dimensions of u that change the image most, in standard deviations around the mode "
        "of the class's prior; z is 0. (The paper's Figure 4c.)",
        across=balanced(len(panels), 2),
    )


def _u_panel(images: Tensor, title: str, rows: Sequence[str], deviations: Float[Tensor, " columns"]) -> Panel:
    return Panel(images=images, title=title, row_labels=rows, column_labels=_ends(deviations))


def class_traversals(context: FigureContext) -> Figure:
    """Draw Figure 9: for each class, each dimension of z of a test image from -REACH to REACH."""
    values = centred(COLUMNS_PER_CLASS)
    z_dim = context.config.model.z_dim
    factor = context.factors[context.main_factor]
    panels = [
        Panel(
            images=decode(context.model, traverse_z(base.latents, values)),
            title=base.name,
            row_labels=[f"z{dim}" for dim in range(z_dim)],
            column_labels=_ends(values),
        )
        for base in in_order(context.bases(len(factor.classes)))
    ]
    return draw_panels(
        panels,
        title="Traversals of z in each class",
        note="Each row changes one dimension of z; all other latents are those of a test image of the class. A "
        "dimension should have the same effect in every class. (The paper's Figure 9.)",
        across=balanced(len(panels), 3 if len(panels) <= 6 else 4),
    )


def in_order(bases: list[Base]) -> list[Base]:
    """Sort base images by their class."""
    return sorted(bases, key=lambda base: base.class_index)


def most_active(images: UInt8[Tensor, "rows columns height width channels"]) -> Tensor:
    """Return the indices of rows by decreasing variance of the images in a row."""
    change = images.float().var(dim=1).flatten(1).mean(dim=1)
    return torch.argsort(change, descending=True, stable=True)


def _with_information(letter: str, nats: Float[Tensor, " dims"]) -> list[str]:
    return [f"{letter}{dim} ({value:.1f})" for dim, value in enumerate(nats.tolist())]


def _ends(values: Float[Tensor, " columns"]) -> list[str]:
    """Label the first, the middle and the last column."""
    labels = [""] * len(values)
    for column in (0, len(values) // 2, len(values) - 1):
        labels[column] = f"{values[column].item():.3g}".replace("-", "−")
    return labels
