"""Seeded draws from the priors, in the order of generation of paper section 4.4: the class, then u given it, and z."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from partedvae.serving.operations.latents import Latents, prior_modes
from partedvae.v1.manifest_pb2 import Factor, Manifest


def draw(manifest: Manifest, count: int, fixed: Mapping[str, int], seed: int) -> Latents:
    """Draw c_k ~ p(c_k), u_k ~ p(u_k | c_k) and z ~ N(0, I).

    Every kind of draw has a random stream of its own, so that image i depends on the seed alone: not on `count`
    (four images are the first four of eight), and its z and the noise of its u not on the classes asked for.

    Args:
        manifest: has the priors.
        count: images.
        fixed: class index by factor name, for factors that are not to be drawn.
        seed: any non-negative integer.
    """
    z_stream, *streams = np.random.SeedSequence(seed).spawn(1 + 2 * len(manifest.factors))
    classes, latents = [], []
    for factor, class_stream, u_stream in zip(manifest.factors, streams[0::2], streams[1::2], strict=True):
        if factor.name in fixed:
            indices = np.full(count, fixed[factor.name])
        else:
            indices = _draw_classes(factor, count, _generator(class_stream))
        classes.append(indices)
        latents.append(_draw_u(factor, indices, _generator(u_stream)))
    z = _generator(z_stream).standard_normal((count, manifest.z_dim))
    return Latents(
        class_indices=tuple(classes),
        u=np.concatenate(latents, axis=1).astype(np.float32),
        z=z.astype(np.float32),
    )


def _generator(stream: np.random.SeedSequence) -> np.random.Generator:
    # PCG64 by name: NumPy keeps its streams, while default_rng may change its generator.
    return np.random.Generator(np.random.PCG64(stream))


def _draw_classes(factor: Factor, count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Draw by the inverse of the cumulative distribution: one uniform an image."""
    cumulative = np.cumsum(np.array(factor.prior_probs, dtype=np.float64))
    # Scaled by the last value: float32 probabilities sum to one only nearly.
    indices: NDArray[np.int64] = np.searchsorted(cumulative, random.random(count) * cumulative[-1], side="right")
    return indices


def _draw_u(factor: Factor, indices: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.float64]:
    modes = prior_modes(factor)
    noise = random.standard_normal((len(indices), factor.u_dim))
    return modes.means[indices] + modes.deviations[indices] * noise
