"""Traversals: one latent dimension, or one class, changes along a row and all else stays (Figures 4 and 9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from partedvae.results import FloatArray, ImageArray
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.operations.latents import (
    Latents,
    class_indices_of,
    factor_index,
    posterior_means,
    prior_modes,
    u_slice,
)
from partedvae.serving.operations.plans import Decode, Plan
from partedvae.serving.operations.sampling import draw
from partedvae.v1.manifest_pb2 import Factor, Manifest

STEPS, MAX_STEPS = 9, 64
"""Columns of z and u where nothing else is asked for, and at most. Odd, so that the middle is the mean."""
REACH, MAX_REACH = 2.5, 10.0
"""How far the columns go to either side, in standard deviations of the prior."""


@dataclass(frozen=True, kw_only=True)
class PriorBase:
    """Bases drawn from the priors as `generate` draws."""

    classes: dict[str, str]
    """Class name by factor name; a factor that is not named is drawn from its p(c_k)."""
    seed: int
    """The same seed gives the same bases."""
    count: int = 1
    """How many."""


Base: TypeAlias = ImageArray | PriorBase
"""Images at the model's size, whose posterior means are the bases; or draws."""


@dataclass(frozen=True, kw_only=True)
class AlongZ:
    """Dimensions of z, from -reach to +reach around 0."""

    dimensions: Sequence[int] = ()
    """Which; empty means all."""
    steps: int = STEPS
    """Columns."""
    reach: float = REACH
    """In standard deviations of the prior, which is N(0, I)."""


@dataclass(frozen=True, kw_only=True)
class AlongU:
    """Dimensions of a factor's u, around the mode of each base's class."""

    factor: str = ""
    """Name; empty means the only one."""
    dimensions: Sequence[int] = ()
    """Which; empty means all."""
    steps: int = STEPS
    """Columns."""
    reach: float = REACH
    """In standard deviations of the mode."""


@dataclass(frozen=True, kw_only=True)
class AlongClasses:
    """The classes of a factor: u_k keeps its distance from the mode's mean, measured in the mode's deviations."""

    factor: str
    """Name."""


Along: TypeAlias = AlongZ | AlongU | AlongClasses


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """What one row of a grid shows."""

    base: int
    """Position of the base."""
    dimension: int | None = None
    """The dimension that changes; None where the class does."""
    values: FloatArray | None = None
    """Its value in each column, [columns]; None where the class changes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Traversed:
    """Traversals: bases outermost, then dimensions."""

    images: ImageArray
    """uint8 [rows, columns, height, width, channels]."""
    rows: tuple[Row, ...]
    """What each row shows."""
    class_names: tuple[str, ...] = ()
    """The class of each column, where the class changes."""
    class_indices: tuple[NDArray[np.int64], ...]
    """For each factor, the class of each base, [bases]."""


def plan_traversal(manifest: Manifest, base: Base, along: Along, max_images: int) -> Plan[Traversed]:
    """Plan a traversal.

    Args:
        manifest: the model's.
        base: where it starts.
        along: what changes.
        max_images: the limit of the grid.

    Raises:
        InvalidInputError: a factor, class or dimension does not exist, steps or reach are out of range, or the grid
            has more than `max_images`.
    """
    count = base.count if isinstance(base, PriorBase) else len(base)
    rows_each, columns = _size(manifest, along)
    if count < 1 or count * rows_each * columns > max_images:
        raise InvalidInputError(
            f"a grid of {count} bases with {rows_each} rows each and {columns} columns is out of range: it needs a "
            f"base, and at most {max_images} images; ask for fewer bases, dimensions or steps"
        )
    if isinstance(base, PriorBase):
        start = draw(manifest, count, class_indices_of(manifest, base.classes), base.seed)
    else:
        start = yield from posterior_means(manifest, base)
    rows, u, z = _grid(manifest, start, along)
    pixels: ImageArray = yield Decode(u.reshape(-1, u.shape[-1]), z.reshape(-1, z.shape[-1]))
    names = _factor(manifest, along.factor)[1].class_names if isinstance(along, AlongClasses) else ()
    return Traversed(
        images=pixels.reshape(len(rows), columns, *pixels.shape[1:]),
        rows=rows,
        class_names=tuple(names),
        class_indices=start.class_indices,
    )


def _size(manifest: Manifest, along: Along) -> tuple[int, int]:
    """Check what is asked for, and return the rows of each base and the columns."""
    if isinstance(along, AlongClasses):
        return 1, len(_factor(manifest, along.factor)[1].class_names)
    if not 2 <= along.steps <= MAX_STEPS:
        raise InvalidInputError(f"steps of {along.steps} are out of range: ask for 2 to {MAX_STEPS}")
    if not 0 < along.reach <= MAX_REACH:  # also refuses NaN
        raise InvalidInputError(
            f"a reach of {along.reach:g} is out of range: ask for more than 0 and at most {MAX_REACH:g} standard "
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
            f"there are several factors, name one of {[factor.name for factor in manifest.factors]}"
        )
    k = factor_index(manifest, name) if name else 0
    return k, manifest.factors[k]


def _grid(manifest: Manifest, start: Latents, along: Along) -> tuple[tuple[Row, ...], FloatArray, FloatArray]:
    """Return what each row shows, and u and z, [bases, rows each, columns, dims]."""
    bases = range(len(start.z))
    if isinstance(along, AlongClasses):
        us = _moved_to_each_class(manifest, start, along)
        return tuple(Row(base=base) for base in bases), us[:, np.newaxis], _repeated(start.z, 1, us.shape[1])
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
        Row(base=base, dimension=dimension, values=values[base, i])
        for base in bases
        for i, dimension in enumerate(dimensions)
    ]
    return tuple(rows), u, z


def _moved_to_each_class(manifest: Manifest, start: Latents, along: AlongClasses) -> FloatArray:
    """Return u with u_k moved to each class, [bases, classes, sum of u_dim]; a base's own class has its u unchanged."""
    k, factor = _factor(manifest, along.factor)
    modes, where, own = prior_modes(factor), u_slice(manifest, k), start.class_indices[k]
    distance = (start.u[:, where] - modes.means[own]) / modes.deviations[own]
    moved = np.repeat(start.u[:, np.newaxis], len(modes.means), axis=1)
    moved[:, :, where] = modes.means + modes.deviations * distance[:, np.newaxis]
    return moved


def _repeated(latents: FloatArray, rows: int, columns: int) -> FloatArray:
    """Return copies of each base's latents, [bases, rows, columns, dims]."""
    return np.tile(latents[:, np.newaxis, np.newaxis], (1, rows, columns, 1))
