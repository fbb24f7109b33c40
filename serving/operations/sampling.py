"""Generation: seeded draws from the priors in the order of paper section 4.4 (the class, u given it, z), decoded."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from partedvae.image_results import Generated
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.images import DEFAULT_LIMITS
from partedvae.serving.operations.latents import Latents, Prior, class_indices_of, class_names_of, prior_of
from partedvae.serving.operations.model import Model
from partedvae.v1.manifest_pb2 import Manifest


async def generate(
    model: Model, count: int, classes: Mapping[str, str], seed: int, max_count: int = DEFAULT_LIMITS.max_images
) -> Generated:
    """Return new images: c, u and z drawn from the priors, then decoded (paper section 4.4).

    Args:
        model: the model to run.
        count: number of images, 1 to `max_count`.
        classes: class name by factor name; the other factors are drawn from p(c_k).
        seed: the same seed gives the same images; four images are the first four of eight.
        max_count: the limit.

    Raises:
        InvalidInputError: the count is out of range, or a factor or class does not exist.
    """
    if not 1 <= count <= max_count:
        raise InvalidInputError(f"a count of {count} images is out of range: choose 1 to {max_count}")
    model.reserve_images(count)
    latents = draw(model.manifest, count, class_indices_of(model.manifest, classes), seed)
    images = await model.decode(latents.u, latents.z)
    return Generated(
        images=images,
        classes=class_names_of(model.manifest, latents),
        seed=seed,
        model=model.name,
        version=model.version,
    )


def draw(manifest: Manifest, count: int, fixed: Mapping[str, int], seed: int) -> Latents:
    """Draw c_k ~ p(c_k), u_k ~ p(u_k | c_k) and z ~ N(0, I).

    Each kind of draw has its own random stream, so that image i depends on the seed alone: not on `count` (four images
    are the first four of eight), and its z and the noise of its u not on the requested classes.

    Args:
        manifest: has the priors.
        count: number of images.
        fixed: class index by factor name, for factors that are not drawn.
        seed: any non-negative integer.
    """
    classes, latents = [], []
    for k, factor in enumerate(manifest.factors):
        prior = prior_of(factor)
        if factor.name in fixed:
            indices = np.full(count, fixed[factor.name])
        else:
            indices = _draw_classes(prior, count, _generator(seed, 1 + 2 * k))
        classes.append(indices)
        latents.append(_draw_u(prior, indices, _generator(seed, 2 + 2 * k)))
    z = _generator(seed, 0).standard_normal((count, manifest.z_dim))
    return Latents(
        class_indices=tuple(classes),
        u=np.concatenate(latents, axis=1).astype(np.float32),
        z=z.astype(np.float32),
    )


def new_seed() -> int:
    """Return a random seed of 32 bits, short enough to be typed again."""
    return secrets.randbits(32)


def _generator(seed: int, stream: int) -> np.random.Generator:
    """Return the generator of one stream: that of `SeedSequence(seed).spawn(stream + 1)[stream]`."""
    # PCG64 by name: NumPy keeps its streams, while default_rng may change its generator.
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(stream,))))


def _draw_classes(prior: Prior, count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Draw by inverting the cumulative distribution, with one uniform number per image."""
    cumulative = prior.cumulative
    # Scaled by the last value: float32 probabilities sum to one only approximately.
    indices: NDArray[np.int64] = np.searchsorted(cumulative, random.random(count) * cumulative[-1], side="right")
    return indices


def _draw_u(prior: Prior, indices: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.float64]:
    means, deviations = prior.modes
    noise = random.standard_normal((len(indices), means.shape[1]))
    return means[indices] + deviations[indices] * noise
