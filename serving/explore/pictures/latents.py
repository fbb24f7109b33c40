"""Latents in URLs: u and z as numbers with commas, and the rows of strips that start from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from partedvae.errors import InvalidRequestError
from partedvae.results import FloatArray
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.operations.latents import Latents, class_indices_of
from partedvae.serving.operations.traverse import Along, AlongClasses, AlongU, AlongZ, traversal_latents
from partedvae.v1.manifest_pb2 import Manifest


def to_text(values: Iterable[float]) -> str:
    """Return the numbers of one image for a URL, with four digits each."""
    return ",".join(f"{value:.4g}" for value in values)


def from_text(name: str, text: str, dims: int) -> FloatArray:
    """Return float32 [1, dims].

    Args:
        name: of the parameter, for errors.
        text: numbers with commas.
        dims: how many there must be.

    Raises:
        InvalidRequestError: they are not that many finite numbers.
    """
    try:
        values = np.array([float(part) for part in text.split(",")] if text else [], dtype=np.float64)
    except ValueError as error:
        raise InvalidRequestError(f"{name}={text[:80]!r} is not a list of numbers such as 0.5,-1,2") from error
    if len(values) != dims:
        raise InvalidRequestError(f"{name} has {len(values)} numbers; the model has {dims} dimensions of {name}")
    if not np.isfinite(values).all() or np.abs(values).max(initial=0) > np.finfo(np.float32).max:
        raise InvalidRequestError(f"{name} has numbers that are not finite")
    return values.astype(np.float32)[np.newaxis]


def u_dim(manifest: Manifest) -> int:
    """Return the dimensions of u of all factors."""
    return sum(factor.u_dim for factor in manifest.factors)


def strip_rows(
    manifest: Manifest, u: FloatArray, z: FloatArray, classes: Mapping[str, str], *, along: str, factor: str
) -> tuple[int, FloatArray, FloatArray]:
    """Return columns per row, and u and z of strips that start from one image, row by row.

    Args:
        manifest: the model's.
        u: float32 [1, sum of u_dim].
        z: float32 [1, z_dim].
        classes: class name by factor name: the modes around which u changes. Other factors have their first class.
        along: "z", "u" or "classes".
        factor: of "u" and "classes".

    Raises:
        InvalidRequestError: a name does not exist.
    """
    kinds: dict[str, Along] = {"z": AlongZ(), "u": AlongU(factor=factor), "classes": AlongClasses(factor=factor)}
    if along not in kinds:
        raise InvalidRequestError(f"along={along!r} does not exist; choose one of {', '.join(kinds)}")
    try:
        indices = class_indices_of(manifest, classes)
        chosen = tuple(np.array([indices.get(entry.name, 0)]) for entry in manifest.factors)
        start = Latents(class_indices=chosen, u=u, z=z)
        _, u_rows, z_rows = traversal_latents(manifest, start, kinds[along])
    except InvalidInputError as error:
        raise InvalidRequestError(str(error)) from error
    return u_rows.shape[2], u_rows.reshape(-1, u.shape[1]), z_rows.reshape(-1, z.shape[1])
