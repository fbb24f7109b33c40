"""Traversals: one latent dimension, or the class, changes along a row and the rest is constant (Figures 4 and 9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from partedvae.image_results import Traversal, TraversalRow
from partedvae.results import FloatArray, ImageArray
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.images import DEFAULT_LIMITS
from partedvae.serving.operations.latents import (
    Latents,
    class_indices_of,
    class_names_of,
    factor_index,
    posterior_means,
    prior_modes,
    u_slice,
)
from partedvae.serving.operations.model import Model
from partedvae.serving.operations.sampling import draw
from partedvae.v1.manifest_pb2 import Factor, Manifest

STEPS, MAX_STEPS = 9, 64
"""Default and largest number of columns for z and u. The default is odd, so that the middle column is the mean."""
REACH, MAX_REACH = 2.5, 10.0
"""Default and largest distance of the outer columns from the middle, in standard deviations of the prior."""


@dataclass(frozen=True, kw_only=True)
class PriorBase:
    """Bases drawn from the priors, as `generate` draws."""

    classes: Mapping[str, str]
    """Class name by factor name; the other factors are drawn from p(c_k)."""
    seed: int
    """The same seed gives the same bases."""
    count: int = 1
    """Number of bases."""


Base: TypeAlias = ImageArray | PriorBase
"""Images at the model's size, whose posterior means are the bases; or draws from the priors."""


@dataclass(frozen=True, kw_only=True)
class AlongZ:
    """Changes dimensions of z, from -reach to +reach."""

    dimensions: Sequence[int] = ()
    """Counted from 0; empty means all."""
    steps: int = STEPS
    """Number of columns."""
    reach: float = REACH
    """In standard deviations of the prior, which is N(0, I)."""


@dataclass(frozen=True, kw_only=True)
class AlongU:
    """Changes dimensions of a factor's u, around the mode of each base's class."""

    factor: str = ""
    """Name of the factor; empty means the only one."""
    dimensions: Sequence[int] = ()
    """Counted from 0; empty means all."""
    steps: int = STEPS
    """Number of columns."""
    reach: float = REACH
    """In standard deviations of the mode."""


@dataclass(frozen=True, kw_only=True)
class AlongClasses:
    """Changes the class of a factor; u_k keeps its distance from the mode's mean, in the mode's standard deviations."""

    factor: str = ""
    """Name of the factor; empty means the only one."""


Along: TypeAlias = AlongZ | AlongU | AlongClasses


async def traverse(model: Model, base: Base, along: Along, max_images: int = DEFAULT_LIMITS.max_images) -> Traversal:
    """Return images in which one latent dimension, or the class, changes along a row (paper Figures 4 and 9).

    Rows are ordered by base, then by dimension.

    Args:
        model: the model to run.
        base: the images or draws to start from.
        along: what changes.
        max_images: the largest number of images in the grid.

    Raises:
        InvalidInputError: a factor, class or dimension does not exist, steps or reach are out of range, or the grid
            has more than `max_images`.
    """
    manifest = model.manifest
    count = base.count if isinstance(base, PriorBase) else len(base)
    rows_per_base, columns = _size(manifest, along)
    if count < 1 or count * rows_per_base * columns > max_images:
        raise InvalidInputError(
            f"a grid of {count} bases with {rows_per_base} rows each and {columns} columns is out of range: it needs a "
            f"base, and at most {max_images} images; request fewer bases, dimensions or steps"
        )
    model.reserve_images(count * rows_per_base * columns)
    if isinstance(base, PriorBase):
        start = draw(manifest, count, class_indices_of(manifest, base.classes), base.seed)
    else:
        start = await posterior_means(model, base)
    rows, u, z = traversal_latents(manifest, start, along)
    pixels = await model.decode(u.reshape(-1, u.shape[-1]), z.reshape(-1, z.shape[-1]))
    names = _factor(manifest, along.factor)[1].class_names if isinstance(along, AlongClasses) else ()
    return Traversal(
        images=pixels.reshape(len(rows), columns, *pixels.shape[1:]),
        rows=rows,
        class_names=tuple(names),
        classes=class_names_of(manifest, start),
        along="classes" if isinstance(along, AlongClasses) else "u" if isinstance(along, AlongU) else "z",
        seed=base.seed if isinstance(base, PriorBase) else None,
        model=model.name,
        version=model.version,
    )


def _size(manifest: Manifest, along: Along) -> tuple[int, int]:
    """Check the arguments, and return the number of rows per base and of columns."""
    if isinstance(along, AlongClasses):
        return 1, len(_factor(manifest, along.factor)[1].class_names)
    if not 2 <= along.steps <= MAX_STEPS:
        raise InvalidInputError(f"steps of {along.steps} are out of range: choose 2 to {MAX_STEPS}")
    if not 0 < along.reach <= MAX_REACH:  # also refuses NaN
        raise InvalidInputError(
            f"a reach of {along.reach:g} is out of range: choose more than 0 and at most {MAX_REACH:g} standard "
            "deviations"
        )
    return len(_dimensions(manifest, along)), along.steps


def _dimensions(manifest: Manifest, along: AlongZ | AlongU) -> list[int]:
    name, size = "z", manifest.z_dim
    if isinstance(along, AlongU):
        factor = _factor(manifest, along.factor)[1]
        name, size = f"u of factor {factor.name!r}", factor.u_dim
    for dimension in along.dimensions:
        if not 0 <= dimension < size:
            raise InvalidInputError(f"{name} has no dimension {dimension}: it has {size}, counted from 0")
    return list(along.dimensions) or list(range(size))


def _factor(manifest: Manifest, name: str) -> tuple[int, Factor]:
    """Return a factor and its position; an empty name means the only one."""
    if not name and len(manifest.factors) > 1:
        raise InvalidInputError(
            f"the model has several factors; choose one of {[factor.name for factor in manifest.factors]}"
        )
    k = factor_index(manifest, name) if name else 0
    return k, manifest.factors[k]


def traversal_latents(
    manifest: Manifest, start: Latents, along: Along
) -> tuple[tuple[TraversalRow, ...], FloatArray, FloatArray]:
    """Return a description of each row, and u and z, [bases, rows per base, columns, dims]."""
    bases = range(len(start.z))
    if isinstance(along, AlongClasses):
        us = _moved_to_each_class(manifest, start, along)
        nothing = np.empty(0, dtype=np.float32)
        described = tuple(TraversalRow(base=base, dimension=None, values=nothing) for base in bases)
        return described, us[:, np.newaxis], _repeated(start.z, 1, us.shape[1])
    dimensions = _dimensions(manifest, along)
    offsets = along.reach * np.arange(1 - along.steps, along.steps, 2) / (along.steps - 1)
    u = _repeated(start.u, len(dimensions), along.steps)
    z = _repeated(start.z, len(dimensions), along.steps)
    if isinstance(along, AlongU):
        k, factor = _factor(manifest, along.factor)
        modes, changed, first = prior_modes(factor), u, u_slice(manifest, k).start
        means, deviations = (part[start.class_indices[k]][:, dimensions] for part in modes)
    else:
        changed, first = z, 0
        means, deviations = np.zeros((len(bases), len(dimensions))), np.ones((len(bases), len(dimensions)))
    values = (means[..., np.newaxis] + deviations[..., np.newaxis] * offsets).astype(np.float32)
    for i, dimension in enumerate(dimensions):
        changed[:, i, :, first + dimension] = values[:, i]
    rows = [
        TraversalRow(base=base, dimension=dimension, values=values[base, i])
        for base in bases
        for i, dimension in enumerate(dimensions)
    ]
    return tuple(rows), u, z


def _moved_to_each_class(manifest: Manifest, start: Latents, along: AlongClasses) -> FloatArray:
    """Return u with u_k moved to each class, [bases, classes, sum of u_dim]; u is unchanged for a base's own class."""
    k, factor = _factor(manifest, along.factor)
    modes, where, own = prior_modes(factor), u_slice(manifest, k), start.class_indices[k]
    distance = (start.u[:, where] - modes.means[own]) / modes.deviations[own]
    moved = np.repeat(start.u[:, np.newaxis], len(modes.means), axis=1)
    moved[:, :, where] = modes.means + modes.deviations * distance[:, np.newaxis]
    return moved


def _repeated(latents: FloatArray, rows: int, columns: int) -> FloatArray:
    """Return copies of each base's latents, [bases, rows, columns, dims]."""
    return np.tile(latents[:, np.newaxis, np.newaxis], (1, rows, columns, 1))
