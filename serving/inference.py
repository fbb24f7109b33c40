"""What a model can do, as plain functions over a runtime: features, classes, new images, reconstructions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from partedvae.nearest import did_you_mean
from partedvae.results import FactorResult, Features, ImageArray
from partedvae.v1.manifest_pb2 import Manifest
from serving.bundle import Z_LOGVAR, Z_MEAN, factor_output
from serving.errors import InvalidInputError
from serving.images import DEFAULT_LIMITS
from serving.runtime import Runtime
from serving.sampling import draw

Output = Literal["probs", "u_mean", "u_logvar", "z_mean", "z_logvar"]
OUTPUTS: tuple[Output, ...] = ("probs", "u_mean", "u_logvar", "z_mean", "z_logvar")
"""What `extract_features` can return."""
CLASS_RELATED: tuple[Output, ...] = ("probs", "u_mean")
"""What it returns when nothing else is asked for."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Generated:
    """New images and what they were drawn from."""

    images: ImageArray
    """uint8 [images, height, width, channels] at the model's size."""
    class_indices: tuple[NDArray[np.int64], ...]
    """For each factor, the class of each image, [images]."""
    seed: int
    """The seed that was used."""


def extract_features(runtime: Runtime, images: ImageArray, include: Collection[str] = CLASS_RELATED) -> Features:
    """Compute features.

    Args:
        runtime: the model.
        images: uint8 [images, height, width, channels] at the model's size; see `serving.images`.
        include: which of `OUTPUTS`; what is not named stays None.

    Raises:
        InvalidInputError: `include` names something else, or nothing.
    """
    if not include:
        raise InvalidInputError(f"nothing is asked for: include at least one of {list(OUTPUTS)}")
    for kind in include:
        if kind not in OUTPUTS:
            raise InvalidInputError(f"no output {kind!r}: include some of {list(OUTPUTS)}{did_you_mean(kind, OUTPUTS)}")
    per_factor = [kind for kind in ("probs", "u_mean", "u_logvar") if kind in include]
    names = [factor_output(factor.name, kind) for factor in runtime.manifest.factors for kind in per_factor]
    names += [name for name in (Z_MEAN, Z_LOGVAR) if name in include]
    arrays = runtime.encode(images, names)
    factors = tuple(
        FactorResult(
            name=factor.name,
            class_names=tuple(factor.class_names),
            **{kind: arrays[factor_output(factor.name, kind)] for kind in per_factor},
        )
        for factor in runtime.manifest.factors
    )
    return Features(
        factors=factors,
        z=arrays.get(Z_MEAN),
        z_logvar=arrays.get(Z_LOGVAR),
        model=runtime.name,
        version=runtime.version,
    )


def classify(runtime: Runtime, images: ImageArray) -> Features:
    """Compute q(c_k | x) alone; `.factors[k].class_indices` and `.classes` tell the most probable class."""
    return extract_features(runtime, images, ("probs",))


def generate(
    runtime: Runtime, count: int, classes: Mapping[str, str], seed: int, max_count: int = DEFAULT_LIMITS.max_images
) -> Generated:
    """Draw new images: c, u, z from the priors, then the decoder (paper section 4.4).

    Args:
        runtime: the model.
        count: how many, 1 to `max_count`.
        classes: class name by factor name; a factor that is not named is drawn from its p(c_k).
        seed: the same seed gives the same images; four images are the first four of eight.
        max_count: the limit.

    Raises:
        InvalidInputError: the count is out of range, or a factor or class does not exist.
    """
    if not 1 <= count <= max_count:
        raise InvalidInputError(f"a count of {count} images is out of range: ask for 1 to {max_count}")
    latents = draw(runtime.manifest, count, _class_indices(runtime.manifest, classes), seed)
    return Generated(images=runtime.decode(latents.u, latents.z), class_indices=latents.class_indices, seed=seed)


def reconstruct(runtime: Runtime, images: ImageArray) -> ImageArray:
    """Encode and decode again from the posterior means: u of the most probable class of each factor, and z."""
    names = [factor_output(factor.name, "u_mean") for factor in runtime.manifest.factors]
    arrays = runtime.encode(images, [*names, Z_MEAN])
    return runtime.decode(np.concatenate([arrays[name] for name in names], axis=1), arrays[Z_MEAN])


def _class_indices(manifest: Manifest, classes: Mapping[str, str]) -> dict[str, int]:
    """Turn names into indices."""
    class_names = {factor.name: list(factor.class_names) for factor in manifest.factors}
    fixed = {}
    for factor, class_name in classes.items():
        _check_known("factor", factor, class_names)
        _check_known(f"class of factor {factor!r}", class_name, class_names[factor])
        fixed[factor] = class_names[factor].index(class_name)
    return fixed


def _check_known(what: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        raise InvalidInputError(f"no {what} is named {name!r}: there are {list(known)}{did_you_mean(name, known)}")
