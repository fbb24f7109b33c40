"""Reconstructions, attribute transfer (Figure 5) and samples from the priors."""

from __future__ import annotations

import torch
from jaxtyping import UInt8
from matplotlib.figure import Figure
from torch import Tensor

from partedvae.training.config.architecture import FactorConfig
from partedvae.training.figures.context import FigureContext
from partedvae.training.figures.latents import Latents, decode, transfer, u_slice
from partedvae.training.figures.layout import Panel, balanced, draw_panels
from partedvae.training.model.distributions import Gaussian

TRANSFER_ROWS, TRANSFER_COLUMNS = 8, 10
"""Minimum number of target images (at least one per class), and number of source images."""
RECONSTRUCTED = 20
"""Number of test images per line of the reconstructions."""
SAMPLES = 10
"""Number of samples from the priors per class."""


def reconstructions(context: FigureContext) -> Figure:
    """Draw test images of every class above their reconstructions from the posterior means."""
    encoded = context.encoded
    groups = {
        f"{factor.name}: {name}": torch.nonzero(encoded.classes(k) == i).flatten()
        for k, factor in enumerate(context.factors)
        for i, name in enumerate(factor.classes)
    }
    shown = {title: indices for title, indices in groups.items() if len(indices)}
    if not shown:
        shown = {"": torch.arange(len(encoded.split))}
    across = balanced(len(shown), 5)
    panels = []
    for title, indices in shown.items():
        chosen = indices[: RECONSTRUCTED // across]
        images = torch.stack([encoded.split.images[chosen], decode(context.model, encoded.latents(chosen))])
        panels.append(Panel(images=images, title=title))
    return draw_panels(
        panels,
        title="Reconstructions",
        note="Above, test images of each class; below, their reconstructions from the posterior means.",
        across=across,
    )


def attribute_transfer(context: FigureContext) -> Figure:
    """Draw Figure 5: the images of the leftmost column with the z of the images of the first row."""
    encoded = context.encoded
    targets = spread(encoded.recognised(context.main_factor), TRANSFER_ROWS)
    others = torch.ones(len(encoded.u), dtype=torch.bool)
    # A target is no source, since its own z would only reconstruct it, unless the test set is too small.
    others[targets] = len(others) < len(targets) + TRANSFER_COLUMNS
    sources = torch.nonzero(others).flatten()[:TRANSFER_COLUMNS]
    mixed = decode(context.model, transfer(encoded.latents(targets), encoded.latents(sources)))
    images = framed(encoded.split.images[sources], encoded.split.images[targets], mixed)
    return draw_panels(
        [Panel(images=images, lead=1)],
        title="Attribute transfer",
        note="Each image combines the class and u of the test image on the left with the z (all class-independent "
        "features) of the test image above. (The paper's Figure 5.)",
    )


def spread(classes: Tensor, least: int) -> Tensor:
    """Return images of all classes in turn, at least `least` of them and at least one per class.

    Args:
        classes: class of each image; -1 excludes an image.
        least: minimum number of images, if there are so many.

    Returns:
        Indices of the images, sorted by class.
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
    """Add a row of images above a grid and a column on its left; the corner is white."""
    corner = torch.full_like(first_row[:1], 255)
    top = torch.cat([corner, first_row])[None]
    return torch.cat([top, torch.cat([first_column[:, None], inner], dim=1)])


def prior_samples(context: FigureContext) -> Figure:
    """Draw samples from the priors for each class; z and the other factors are the same in each column."""
    generator = context.generator()
    modes = [context.modes(k) for k in range(len(context.factors))]
    base = draw_base(context.factors, modes, context.config.model.z_dim, SAMPLES, generator)
    panels = []
    for k, factor in enumerate(context.factors):
        classes = torch.arange(len(factor.classes)).repeat_interleave(SAMPLES)
        u = base.u.repeat(len(factor.classes), 1)
        u[:, u_slice(context.config.model, k)] = draw_u(modes[k], classes, generator)
        latents = Latents(u, base.z.repeat(len(factor.classes), 1))
        images = decode(context.model, latents).unflatten(0, (len(factor.classes), SAMPLES))
        panels.append(Panel(images=images, title=factor.name, row_labels=factor.classes))
    return draw_panels(
        panels,
        title="Samples from the priors",
        note="The u of each image is drawn from the prior of its row's class. The images of a column share one z, "
        "drawn from N(0, I)" + (", and the classes of the other factors." if len(panels) > 1 else "."),
        across=balanced(len(panels), 2),
    )


def draw_base(
    factors: tuple[FactorConfig, ...], modes: list[Gaussian], z_dim: int, count: int, generator: torch.Generator
) -> Latents:
    """Draw latents from the priors: c_k and u_k given c_k of every factor, and z.

    Args:
        factors: the class variables.
        modes: p(u_k | c_k) of each factor, [classes, u_k_dim].
        z_dim: dimensions of z.
        count: number of samples.
        generator: random numbers.
    """
    us = []
    for factor, mode in zip(factors, modes, strict=True):
        classes = torch.multinomial(torch.tensor(factor.prior), count, replacement=True, generator=generator)
        us.append(draw_u(mode, classes, generator))
    return Latents(torch.cat(us, dim=1), torch.randn(count, z_dim, generator=generator))


def draw_u(modes: Gaussian, classes: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from p(u | c), one sample per given class, [samples, u_k_dim]."""
    noise = torch.randn(len(classes), modes.mean.shape[1], generator=generator)
    return modes.mean[classes] + torch.exp(0.5 * modes.logvar[classes]) * noise
