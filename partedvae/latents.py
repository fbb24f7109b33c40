"""Latents that callers choose: what `Client.decode` accepts, their checks, and the requests that send them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from partedvae.common.suggest import did_you_mean
from partedvae.errors import InvalidRequestError
from partedvae.model_results import ModelDetails
from partedvae.results import FloatArray
from partedvae.tensors import float_tensor
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.manifest_pb2 import Manifest

LatentsOfU: TypeAlias = ArrayLike | Mapping[str, ArrayLike]
"""u of all factors side by side in the model's order, or {factor: u}."""


def latent_rows(u: LatentsOfU, z: ArrayLike, manifest: Manifest) -> tuple[FloatArray, FloatArray]:
    """Return the latents of `Client.decode` as float32 [images, sum of u_dim] and [images, z_dim].

    The dimensions of arrays are left to `decode`: the server may have a newer version of the model than `manifest`.

    Args:
        u: u of all factors side by side in the manifest's order, or {factor: u}; of one image also without its axis.
        z: z, of one image also without its axis.
        manifest: the model's.

    Raises:
        InvalidRequestError: they are not rows of numbers, a factor is unknown or missing, u and z differ in their
            number of rows, there is none, or a value is not finite as float32.
    """
    expected = expected_shapes(manifest)
    u_rows = _joined_factors(u, manifest) if isinstance(u, Mapping) else _matrix("u", u, expected["u"])
    z_rows = _matrix("z", z, expected["z"])
    problem = _rows_problem(u_rows, z_rows) or value_problem(u_rows, z_rows)
    if problem is not None:
        raise InvalidRequestError(problem)
    return u_rows, z_rows


def expected_shapes(manifest: Manifest) -> dict[str, str]:
    """Return the shapes of u and z for messages: "[images, 3] (shape 2, colour 1)"."""
    dims = ", ".join(f"{factor.name} {factor.u_dim}" for factor in manifest.factors)
    u_dim = sum(factor.u_dim for factor in manifest.factors)
    return {"u": f"[images, {u_dim}] ({dims})", "z": f"[images, {manifest.z_dim}]"}


def shape_problem(u: FloatArray, z: FloatArray, manifest: Manifest) -> str | None:
    """Return what is wrong with the shapes of latents [rows, dimensions]; None if they fit the model."""
    u_dim = sum(factor.u_dim for factor in manifest.factors)
    for name, array, dim in (("u", u, u_dim), ("z", z, manifest.z_dim)):
        if array.shape[1] != dim:
            return f"{name} has the shape {list(array.shape)}; it must be {expected_shapes(manifest)[name]}"
    return _rows_problem(u, z)


def value_problem(u: FloatArray, z: FloatArray) -> str | None:
    """Return which value of latents cannot be decoded; None if all are finite."""
    for name, array in (("u", u), ("z", z)):
        finite = np.isfinite(array)
        if not finite.all():
            image, dimension = np.argwhere(~finite)[0].tolist()
            value = array[image, dimension]
            return f"dimension {dimension} of {name} of image {image} is {value}; it must be a finite float32"
    return None


def decode_requests(
    selector: pb.ModelSelector, u: FloatArray, z: FloatArray, details: ModelDetails
) -> Iterator[tuple[pb.DecodeRequest, Callable[[str], str]]]:
    """Yield the requests that decode latents, of as many images each as the limits of the server allow.

    Args:
        selector: model and version.
        u: float32 [images, sum of u_dim].
        z: float32 [images, z_dim].
        details: has the limits, and the size of the model's images.
    """
    rows = details.packing.with_replies_of_images().decoded_rows((u.shape[1] + z.shape[1]) * z.itemsize)
    for first in range(0, len(z), rows):
        part = slice(first, first + rows)
        yield pb.DecodeRequest(model=selector, u=float_tensor(u[part]), z=float_tensor(z[part])), str


def _rows_problem(u: FloatArray, z: FloatArray) -> str | None:
    if len(u) != len(z):
        return f"u has {len(u)} rows and z has {len(z)}; each needs one row per image"
    return None if len(z) else "u and z have no rows; pass those of at least one image"


def _joined_factors(u: Mapping[str, ArrayLike], manifest: Manifest) -> FloatArray:
    """Return {factor: u} as one array, in the manifest's order."""
    names = [factor.name for factor in manifest.factors]
    for name in u:
        if name not in names:
            hint = did_you_mean(name, names) if isinstance(name, str) else ""
            raise InvalidRequestError(f"u has {name!r}; the factors of the model are {names}{hint}")
    missing = [name for name in names if name not in u]
    if missing:
        raise InvalidRequestError(f"u has nothing for {missing}; pass u of every factor: {names}")
    parts = []
    for factor in manifest.factors:
        expected = f"[images, {factor.u_dim}]"
        part = _matrix(f"u[{factor.name!r}]", u[factor.name], expected)
        if part.shape[1] != factor.u_dim:
            raise InvalidRequestError(f"u[{factor.name!r}] has the shape {list(part.shape)}; it must be {expected}")
        parts.append(part)
    counts = {name: len(part) for name, part in zip(names, parts, strict=True)}
    if len(set(counts.values())) > 1:
        raise InvalidRequestError(f"the factors of u differ in their rows: {counts}; each needs one row per image")
    return np.concatenate(parts, axis=1)


def _matrix(name: str, value: ArrayLike, expected: str) -> FloatArray:
    """Return numbers as float32 [rows, dimensions], a vector as one row."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.getmaskarray(value).any():
        raise InvalidRequestError(f"{name} has masked values; fill them: x.filled(0)")
    try:
        array: NDArray[Any] = np.asarray(value)
    except ValueError as error:  # Rows of different lengths.
        raise InvalidRequestError(f"{name} cannot be made an array: {error}") from error
    if array.dtype.kind not in "fiu":
        raise InvalidRequestError(f"{name} has the type {array.dtype}; it must be numbers, an array of float32")
    with np.errstate(over="ignore"):  # Numbers that float32 does not have become infinite, which is an error later.
        rows = array.astype(np.float32, copy=False)
    rows = rows[np.newaxis] if rows.ndim == 1 else rows
    if rows.ndim != 2:
        raise InvalidRequestError(f"{name} has the shape {list(rows.shape)}; it must be {expected}")
    return rows
