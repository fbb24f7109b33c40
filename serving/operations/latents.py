"""Latents and where they come from: the posterior means of images, the modes of the priors; and names of classes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from partedvae.common.suggest import did_you_mean
from partedvae.results import FloatArray, ImageArray
from partedvae.serving.bundle import Z_MEAN, factor_output
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.operations.plans import Encode, Plan
from partedvae.v1.manifest_pb2 import Factor, Manifest


@dataclass(frozen=True, kw_only=True, eq=False)
class Latents:
    """(c, u, z) of a batch."""

    class_indices: tuple[NDArray[np.int64], ...]
    """For each factor, [images]."""
    u: FloatArray
    """u of all factors side by side in the manifest's order, [images, sum of u_dim]."""
    z: FloatArray
    """[images, z_dim]."""


class Modes(NamedTuple):
    """p(u_k | c_k) of every class of a factor, float64."""

    means: NDArray[np.float64]
    """[classes, u_dim]."""
    deviations: NDArray[np.float64]
    """Standard deviations, [classes, u_dim]."""


def posterior_means(manifest: Manifest, images: ImageArray) -> Plan[Latents]:
    """Encode images: c the most probable class of each factor, u given it, and z, both at their means."""
    names = [factor.name for factor in manifest.factors]
    u_names = [factor_output(name, "u_mean") for name in names]
    probs_names = [factor_output(name, "probs") for name in names]
    arrays = yield Encode(images, [*probs_names, *u_names, Z_MEAN])
    return Latents(
        class_indices=tuple(np.argmax(arrays[name], axis=1) for name in probs_names),
        u=np.concatenate([arrays[name] for name in u_names], axis=1),
        z=arrays[Z_MEAN],
    )


def prior_modes(factor: Factor) -> Modes:
    """Return the mixture prior of a factor's u."""
    shape = (len(factor.class_names), factor.u_dim)
    logvars = np.array(factor.prior_logvars, dtype=np.float64).reshape(shape)
    return Modes(np.array(factor.prior_means, dtype=np.float64).reshape(shape), np.exp(0.5 * logvars))


def u_slice(manifest: Manifest, k: int) -> slice:
    """Return where the u of factor k is among all u."""
    start = sum(factor.u_dim for factor in manifest.factors[:k])
    return slice(start, start + manifest.factors[k].u_dim)


def factor_index(manifest: Manifest, name: str) -> int:
    """Return the position of a factor.

    Raises:
        InvalidInputError: there is none of this name.
    """
    names = [factor.name for factor in manifest.factors]
    check_known("factor", name, names)
    return names.index(name)


def class_indices_of(manifest: Manifest, classes: Mapping[str, str]) -> dict[str, int]:
    """Turn class names by factor name into class indices.

    Raises:
        InvalidInputError: a factor or a class does not exist.
    """
    class_names = {factor.name: list(factor.class_names) for factor in manifest.factors}
    fixed = {}
    for factor, class_name in classes.items():
        check_known("factor", factor, class_names)
        check_known(f"class of factor {factor!r}", class_name, class_names[factor])
        fixed[factor] = class_names[factor].index(class_name)
    return fixed


def check_known(what: str, name: str, known: Collection[str]) -> None:
    """Refuse a name that is not known.

    Raises:
        InvalidInputError: it is not; the message says which are, and the nearest.
    """
    if name not in known:
        raise InvalidInputError(f"no {what} is named {name!r}: there are {list(known)}{did_you_mean(name, known)}")
