"""One latent dimension at a time: Figure 4 (z of an image, u of a class), and Figure 9 (z for each class)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from torch import Tensor

from partedvae.training.figures.context import Base, Subject
from partedvae.training.figures.latents import centred, decode, traverse_u, traverse_z, u_slice
from partedvae.training.figures.layout import Panel, balanced, draw_panels
from partedvae.training.model.distributions import Gaussian

COLUMNS = 9
"""Values of a dimension in Figure 4; odd, so that the middle is the mean."""
COLUMNS_PER_CLASS = 7
"""Values of a dimension in Figure 9, where all classes share the page."""
BASES = 3
"""Images whose z is traversed."""
U_ROWS = 3
"""Dimensions of u shown for each class."""


def traversal_z(subject: Subject) -> Figure:
    """Figures 4a, 4b and 6a: each dimension of z from -REACH to REACH, all else as in a test image."""
    values = centred(COLUMNS)
    names = _with_information("z", information(subject.encoded.z))
    panels = [
        Panel(
            images=decode(subject.model, traverse_z(base.latents, values)),
            title=base.name,
            row_labels=names if position == 0 else (),
            column_labels=_ends(values),
        )
        for position, base in enumerate(in_order(subject.bases(BASES)))
    ]
    return draw_panels(
        panels,
        title="Traversals of z, the class-independent features",
        note="Each row changes one dimension of z; all else stays as in a test image of the class. In brackets, the "
        "nats that the dimension carries: one near 0 is not in use. (The paper's Figures 4a, 4b and 6a.)",
        across=len(panels),
    )


def traversal_u(subject: Subject) -> Figure:
    """Figure 4c: for each class, those dimensions of its u that change the image most, around the mode of its prior.

    The classes of a factor whose u has one dimension share a panel, a row each.
    """
    deviations = centred(COLUMNS)
    base, panels = subject.prior_base(), []
    for k, factor in enumerate(subject.factors):
        modes, where = subject.modes(k), u_slice(subject.config.model, k)
        images = [
            decode(subject.model, traverse_u(base, where, Gaussian(mean, logvar), deviations))
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
        note="For each class, those dimensions of its u that change the image most, in standard deviations around the "
        "mode of the class's prior; z is 0. (The paper's Figure 4c.)",
        across=balanced(len(panels), 2),
    )


def _u_panel(images: Tensor, title: str, rows: Sequence[str], deviations: Float[Tensor, " columns"]) -> Panel:
    return Panel(images=images, title=title, row_labels=rows, column_labels=_ends(deviations))


def class_traversals(subject: Subject) -> Figure:
    """Figure 9: for each class, each dimension of z from -REACH to REACH, all else as in a test image of the class."""
    values = centred(COLUMNS_PER_CLASS)
    z_dim = subject.config.model.z_dim
    factor = subject.factors[subject.main_factor]
    panels = [
        Panel(
            images=decode(subject.model, traverse_z(base.latents, values)),
            title=base.name,
            row_labels=[f"z{dim}" for dim in range(z_dim)],
            column_labels=_ends(values),
        )
        for base in in_order(subject.bases(len(factor.classes)))
    ]
    return draw_panels(
        panels,
        title="Traversals of z in each class",
        note="Each row changes one dimension of z; all else stays as in a test image of the class. A dimension should "
        "do the same to every class. (The paper's Figure 9.)",
        across=balanced(len(panels), 3 if len(panels) <= 6 else 4),
    )


def in_order(bases: list[Base]) -> list[Base]:
    """Sort test images by their classes."""
    return sorted(bases, key=lambda base: base.class_index)


def information(posterior: Gaussian) -> Float[Tensor, " dims"]:
    """Return the mean KL(q || N(0, 1)) of each dimension in nats, [images, dims] in."""
    kl = 0.5 * (posterior.mean.square() + posterior.logvar.exp() - posterior.logvar - 1)
    return kl.mean(dim=0)


def most_active(images: UInt8[Tensor, "rows columns height width channels"]) -> Tensor:
    """Return the rows' indices by how much their images differ from each other, most first."""
    change = images.float().var(dim=1).flatten(1).mean(dim=1)
    return torch.argsort(change, descending=True, stable=True)


def _with_information(letter: str, nats: Float[Tensor, " dims"]) -> list[str]:
    return [f"{letter}{dim} ({value:.1f})" for dim, value in enumerate(nats.tolist())]


def _ends(values: Float[Tensor, " columns"]) -> list[str]:
    """Label the first column, the middle one and the last."""
    labels = [""] * len(values)
    for column in (0, len(values) // 2, len(values) - 1):
        labels[column] = f"{values[column].item():.3g}".replace("-", "−")
    return labels
