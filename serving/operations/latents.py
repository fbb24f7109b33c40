"""Latents (c, u, z): posterior means of images, modes of the priors, and the names of factors and classes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from partedvae.common.suggest import did_you_mean
from partedvae.latents import shape_problem, value_problem
from partedvae.results import FloatArray, ImageArray
from partedvae.serving.bundle import Z_MEAN, factor_output
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.images import DEFAULT_LIMITS
from partedvae.serving.operations.model import Model
from partedvae.v1.manifest_pb2 import Factor, Manifest


@dataclass(frozen=True, kw_only=True, eq=False)
class Latents:
    """(c, u, z) of a batch."""

    class_indices: tuple[NDArray[np.int64], ...]
    """One array per factor, [images]."""
    u: FloatArray
    """u of all factors, concatenated in the manifest's order, [images, sum of u_dim]."""
    z: FloatArray
    """[images, z_dim]."""


class Modes(NamedTuple):
    """p(u_k | c_k) for every class of a factor, float64."""

    means: NDArray[np.float64]
    """[classes, u_dim]."""
    deviations: NDArray[np.float64]
    """Standard deviations, [classes, u_dim]."""


async def posterior_means(model: Model, images: ImageArray) -> Latents:
    """Encode images: c is the most probable class of each factor, u its mean given that class, and z its mean."""
    names = [factor.name for factor in model.manifest.factors]
    u_names = [factor_output(name, "u_mean") for name in names]
    probs_names = [factor_output(name, "probs") for name in names]
    arrays = await model.encode(images, [*probs_names, *u_names, Z_MEAN])
    return Latents(
        class_indices=tuple(np.argmax(arrays[name], axis=1) for name in probs_names),
        u=np.concatenate([arrays[name] for name in u_names], axis=1),
        z=arrays[Z_MEAN],
    )


async def reconstruct(model: Model, images: ImageArray) -> ImageArray:
    """Encode images, and decode their posterior means."""
    model.reserve_images(len(images))
    latents = await posterior_means(model, images)
    return await model.decode(latents.u, latents.z)


async def decode(model: Model, u: FloatArray, z: FloatArray, max_images: int = DEFAULT_LIMITS.max_images) -> ImageArray:
    """Decode latents; those of an image that `posterior_means` returns give its reconstruction.

    Args:
        model: the model to run.
        u: u of all factors side by side in the manifest's order, float32 [images, sum of u_dim].
        z: float32 [images, z_dim].
        max_images: the largest number of images.

    Raises:
        InvalidInputError: a shape does not fit the model, u and z differ in their number of images, there is none or
            more than `max_images`, or a value is not finite.
    """
    problem = shape_problem(u, z, model.manifest)
    if problem is None and len(z) > max_images:
        problem = f"u and z of {len(z)} images are above the limit of {max_images} per request; send several requests"
    problem = problem or value_problem(u, z)
    if problem is not None:
        raise InvalidInputError(problem)
    model.reserve_images(len(z))
    return await model.decode(u, z)


class Prior(NamedTuple):
    """p(c_k), and p(u_k | c_k) for every class; the arrays must not be written to."""

    class_names: NDArray[np.str_]
    """[classes]."""
    cumulative: NDArray[np.float64]
    """Cumulative distribution of the classes, [classes]; its last value is one only approximately."""
    modes: Modes
    """The mixture prior of u."""


def prior_of(factor: Factor) -> Prior:
    """Return the prior of a factor, as arrays."""
    # Serializing is faster than reading the numbers one by one, and makes a key of a message.
    return _prior(factor.SerializeToString(deterministic=True))


@lru_cache(maxsize=1024)
def _prior(serialized: bytes) -> Prior:
    factor = Factor.FromString(serialized)
    shape = (len(factor.class_names), factor.u_dim)
    logvars = np.array(factor.prior_logvars, dtype=np.float64).reshape(shape)
    means = np.array(factor.prior_means, dtype=np.float64).reshape(shape)
    return Prior(
        np.array(factor.class_names),
        np.cumsum(np.array(factor.prior_probs, dtype=np.float64)),
        Modes(means, np.exp(0.5 * logvars)),
    )


def prior_modes(factor: Factor) -> Modes:
    """Return the mixture prior of a factor's u."""
    return prior_of(factor).modes


def u_slice(manifest: Manifest, k: int) -> slice:
    """Return the columns of factor k in the concatenated u."""
    start = sum(factor.u_dim for factor in manifest.factors[:k])
    return slice(start, start + manifest.factors[k].u_dim)


def factor_index(manifest: Manifest, name: str) -> int:
    """Return the position of a factor.

    Raises:
        InvalidInputError: no factor has this name.
    """
    names = [factor.name for factor in manifest.factors]
    check_known("factor", name, names)
    return names.index(name)


def class_indices_of(manifest: Manifest, classes: Mapping[str, str]) -> dict[str, int]:
    """Convert {factor: class name} to {factor: class index}.

    Raises:
        InvalidInputError: a factor or a class does not exist.
    """
    class_names = {factor.name: list(factor.class_names) for factor in manifest.factors}
    indices = {}
    for factor, class_name in classes.items():
        check_known("factor", factor, class_names)
        check_known(f"class of factor {factor!r}", class_name, class_names[factor])
        indices[factor] = class_names[factor].index(class_name)
    return indices


def class_names_of(manifest: Manifest, latents: Latents) -> dict[str, NDArray[np.str_]]:
    """Return the class name of each row for every factor, {factor: [images]}."""
    return {
        factor.name: prior_of(factor).class_names[indices]
        for factor, indices in zip(manifest.factors, latents.class_indices, strict=True)
    }


def check_known(what: str, name: str, known: Collection[str]) -> None:
    """Check that a name exists.

    Raises:
        InvalidInputError: it does not; the message lists those that do, and suggests the nearest.
    """
    if name not in known:
        raise InvalidInputError(f"no {what} is named {name!r}: there are {list(known)}{did_you_mean(name, known)}")
