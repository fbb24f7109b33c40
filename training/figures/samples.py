"""Test images beside what the model makes of them, their z in other images (Figure 5), and images out of the priors."""

from __future__ import annotations

import torch
from jaxtyping import UInt8
from matplotlib.figure import Figure
from torch import Tensor

from partedvae.training.config.architecture import FactorConfig
from partedvae.training.figures.context import Subject
from partedvae.training.figures.latents import Latents, decode, transfer, u_slice
from partedvae.training.figures.layout import Panel, balanced, draw_panels
from partedvae.training.model.distributions import Gaussian

TRANSFER_ROWS, TRANSFER_COLUMNS = 8, 10
"""Images whose class and u are kept, at least (one for each class where there are more), and images that give z."""
RECONSTRUCTED = 20
"""Test images in a line of the reconstructions, of all its classes together."""
SAMPLES = 10
"""Draws from the priors for each class."""


def reconstructions(subject: Subject) -> Figure:
    """Put some test images of every class over their reconstructions from the posterior means."""
    encoded = subject.encoded
    groups = {
        f"{factor.name}: {name}": torch.nonzero(encoded.classes(k) == i).flatten()
        for k, factor in enumerate(subject.factors)
        for i, name in enumerate(factor.classes)
    }
    there = {title: indices for title, indices in groups.items() if len(indices)}
    if not there:
        there = {"": torch.arange(len(encoded.split))}
    across = balanced(len(there), 5)
    panels = []
    for title, indices in there.items():
        chosen = indices[: RECONSTRUCTED // across]
        images = torch.stack([encoded.split.images[chosen], decode(subject.model, encoded.latents(chosen))])
        panels.append(Panel(images=images, title=title))
    return draw_panels(
        panels,
        title="Reconstructions",
        note="Above, test images of each class; below, what the decoder makes of their posterior means.",
        across=across,
    )


def attribute_transfer(subject: Subject) -> Figure:
    """Figure 5: the z of the first row's images goes into the images of the leftmost column."""
    encoded = subject.encoded
    keep = spread(encoded.recognised(subject.main_factor), TRANSFER_ROWS)
    others = torch.ones(len(encoded.u), dtype=torch.bool)
    # An image that gives its z to itself would be a mere reconstruction; a tiny test set has no choice.
    others[keep] = len(others) < len(keep) + TRANSFER_COLUMNS
    give = torch.nonzero(others).flatten()[:TRANSFER_COLUMNS]
    mixed = decode(subject.model, transfer(encoded.latents(keep), encoded.latents(give)))
    images = framed(encoded.split.images[give], encoded.split.images[keep], mixed)
    return draw_panels(
        [Panel(images=images, lead=1)],
        title="Attribute transfer",
        note="The leftmost test images keep their class and u; the test images of the first row give their z: all "
        "but the class. (The paper's Figure 5.)",
    )


def spread(classes: Tensor, least: int) -> Tensor:
    """Return the first image of each class, then the second of each, until there are `least` and one of each class.

    Args:
        classes: the class of each image, -1 for images not to be chosen.
        least: how many to return, if there are so many.

    Returns:
        The images' indices, sorted by class.
    """
    found = [torch.nonzero(classes == i).flatten() for i in range(int(classes.max()) + 1)]
    turns = [(turn, i) for i, indices in enumerate(found) for turn in range(len(indices))]
    count = max(least, sum(len(indices) > 0 for indices in found))
    chosen = sorted(turns)[:count]
    return torch.stack([found[i][turn] for turn, i in sorted(chosen, key=lambda each: (each[1], each[0]))])


def framed(
    first_row: UInt8[Tensor, "columns height width channels"],
    first_column: UInt8[Tensor, "rows height width channels"],
    inner: UInt8[Tensor, "rows columns height width channels"],
) -> UInt8[Tensor, "rows_1 columns_1 height width channels"]:
    """Put images above and left of a grid; the corner is white."""
    corner = torch.full_like(first_row[:1], 255)
    top = torch.cat([corner, first_row])[None]
    return torch.cat([top, torch.cat([first_column[:, None], inner], dim=1)])


def prior_samples(subject: Subject) -> Figure:
    """Draw c, then u given c, then z, for each class; z and the other factors are the same down each column."""
    generator = subject.generator()
    modes = [subject.modes(k) for k in range(len(subject.factors))]
    base = draw_base(subject.factors, modes, subject.config.model.z_dim, SAMPLES, generator)
    panels = []
    for k, factor in enumerate(subject.factors):
        classes = torch.arange(len(factor.classes)).repeat_interleave(SAMPLES)
        u = base.u.repeat(len(factor.classes), 1)
        u[:, u_slice(subject.config.model, k)] = draw_u(modes[k], classes, generator)
        latents = Latents(u, base.z.repeat(len(factor.classes), 1))
        images = decode(subject.model, latents).unflatten(0, (len(factor.classes), SAMPLES))
        panels.append(Panel(images=images, title=factor.name, row_labels=factor.classes))
    return draw_panels(
        panels,
        title="Samples of the priors",
        note="Each image has a u drawn from the prior of its row's class. Each column has its own z, drawn from N(0, I)"
        + (", and its own classes of the other factors." if len(panels) > 1 else "."),
        across=balanced(len(panels), 2),
    )


def draw_base(
    factors: tuple[FactorConfig, ...], modes: list[Gaussian], z_dim: int, count: int, generator: torch.Generator
) -> Latents:
    """Draw `count` latents from the priors: c_k, then u_k given c_k, of every factor; and z."""
    us = []
    for factor, mode in zip(factors, modes, strict=True):
        classes = torch.multinomial(torch.tensor(factor.prior), count, replacement=True, generator=generator)
        us.append(draw_u(mode, classes, generator))
    return Latents(torch.cat(us, dim=1), torch.randn(count, z_dim, generator=generator))


def draw_u(modes: Gaussian, classes: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from p(u | c) for each of some classes, [draws, u_k_dim]."""
    noise = torch.randn(len(classes), modes.mean.shape[1], generator=generator)
    return modes.mean[classes] + torch.exp(0.5 * modes.logvar[classes]) * noise
