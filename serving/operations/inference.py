"""What a model can do: features, classes, new images, reconstructions, traversals, transfers of attributes.

Each is a function over a runtime, and a plan (see `plans`) for whoever runs graphs in another way.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from partedvae.common.suggest import did_you_mean
from partedvae.results import FactorResult, Features, FloatArray, ImageArray
from partedvae.serving.bundle import NEGATIVE_ELBO, RECONSTRUCTION_ERROR, Z_LOGVAR, Z_MEAN, factor_output
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.images import DEFAULT_LIMITS
from partedvae.serving.onnx.model import Runtime
from partedvae.serving.operations.latents import class_indices_of, posterior_means
from partedvae.serving.operations.plans import Decode, Encode, Plan, Score, carry_out
from partedvae.serving.operations.sampling import draw
from partedvae.serving.operations.transfer import Style, Transferred, plan_transfer
from partedvae.serving.operations.traverse import Along, Base, Traversed, plan_traversal

Output = Literal["probs", "u_mean", "u_logvar", "z_mean", "z_logvar", "reconstruction_error", "negative_elbo"]
OUTPUTS: tuple[Output, ...] = get_args(Output)
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
        images: uint8 [images, height, width, channels] at the model's size; see `partedvae.serving.images`.
        include: which of `OUTPUTS`; what is not named stays None.

    Raises:
        InvalidInputError: `include` names something else, or nothing.
        BundleError: a score is asked for, and the bundle has no graph for it.
    """
    return carry_out(runtime, plan_features(runtime, images, include))


def plan_features(runtime: Runtime, images: ImageArray, include: Collection[str] = CLASS_RELATED) -> Plan[Features]:
    """Plan `extract_features`: one run of the encoder, one of the scorer, or both."""
    if not include:
        raise InvalidInputError(f"nothing is asked for: include at least one of {list(OUTPUTS)}")
    for kind in include:
        if kind not in OUTPUTS:
            raise InvalidInputError(f"no output {kind!r}: include some of {list(OUTPUTS)}{did_you_mean(kind, OUTPUTS)}")
    per_factor = [kind for kind in ("probs", "u_mean", "u_logvar") if kind in include]
    names = [factor_output(factor.name, kind) for factor in runtime.manifest.factors for kind in per_factor]
    names += [name for name in (Z_MEAN, Z_LOGVAR) if name in include]
    scores = [name for name in (RECONSTRUCTION_ERROR, NEGATIVE_ELBO) if name in include]
    if scores:
        runtime.check_scores()
    arrays: dict[str, FloatArray] = {}
    if names:
        arrays |= yield Encode(images, names)
    if scores:
        arrays |= yield Score(images, scores)
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
        reconstruction_error=arrays.get(RECONSTRUCTION_ERROR),
        negative_elbo=arrays.get(NEGATIVE_ELBO),
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
    return carry_out(runtime, plan_generation(runtime, count, classes, seed, max_count))


def plan_generation(
    runtime: Runtime, count: int, classes: Mapping[str, str], seed: int, max_count: int = DEFAULT_LIMITS.max_images
) -> Plan[Generated]:
    """Plan `generate`."""
    if not 1 <= count <= max_count:
        raise InvalidInputError(f"a count of {count} images is out of range: ask for 1 to {max_count}")
    latents = draw(runtime.manifest, count, class_indices_of(runtime.manifest, classes), seed)
    images = yield Decode(latents.u, latents.z)
    return Generated(images=images, class_indices=latents.class_indices, seed=seed)


def reconstruct(runtime: Runtime, images: ImageArray) -> ImageArray:
    """Encode and decode again from the posterior means: u of the most probable class of each factor, and z."""
    return carry_out(runtime, plan_reconstruction(runtime, images))


def plan_reconstruction(runtime: Runtime, images: ImageArray) -> Plan[ImageArray]:
    """Plan `reconstruct`."""
    latents = yield from posterior_means(runtime.manifest, images)
    decoded: ImageArray = yield Decode(latents.u, latents.z)
    return decoded


def traverse(runtime: Runtime, base: Base, along: Along, max_images: int = DEFAULT_LIMITS.max_images) -> Traversed:
    """Change one latent dimension, or one class, and nothing else (paper Figures 4 and 9); see `plan_traversal`."""
    return carry_out(runtime, plan_traversal(runtime.manifest, base, along, max_images))


def transfer_attributes(
    runtime: Runtime,
    content: ImageArray,
    style: Style,
    *,
    pairs: bool = False,
    max_images: int = DEFAULT_LIMITS.max_images,
) -> Transferred:
    """Join z of some images with u of others, or of classes (paper Figure 5); see `plan_transfer`."""
    return carry_out(runtime, plan_transfer(runtime.manifest, content, style, pairs=pairs, max_images=max_images))
