"""The representation that all scores are computed on: the posterior means of all images."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from partedvae.training.config.train_config import TrainConfig
from partedvae.training.data.dataset import Images
from partedvae.training.evaluation.evaluation import posteriors
from partedvae.training.model.partedvae import PartedVAE


class Representation(NamedTuple):
    """Posterior means of images, float32."""

    u_mean: Float[np.ndarray, "images u_dim"]
    """The class-related features: all u_k, concatenated, given the most probable classes of each image."""
    z_mean: Float[np.ndarray, "images z_dim"]
    """The class-independent features."""

    @property
    def joined(self) -> Float[np.ndarray, "images dims"]:
        """The means of z, then of u: the representation for the paper's Factor scores."""
        return np.concatenate([self.z_mean, self.u_mean], axis=1)


def represent(
    model: PartedVAE, images: Images, config: TrainConfig, progress: Callable[[int], object] | None = None
) -> Representation:
    """Return the posterior means of images, in their order.

    Images are read batch by batch and only the means are kept: 4 bytes per dimension and image, 29 MB for the 737,280
    images of dSprites and ten dimensions.

    Args:
        model: the trained model, on any device.
        images: uint8 images, in memory or loaded on access.
        config: the run's configuration.
        progress: called after each batch with its number of images, like tqdm's `update`.
    """
    u_mean = np.empty((len(images), model.config.u_dim), dtype=np.float32)
    z_mean = np.empty((len(images), model.config.z_dim), dtype=np.float32)
    done = 0
    for pixels, posterior in posteriors(model, images, config):
        batch = slice(done, done + len(pixels))
        u_mean[batch] = posterior.u_mean.cpu().numpy()
        z_mean[batch] = posterior.z.mean.cpu().numpy()
        done += len(pixels)
        if progress is not None:
            progress(len(pixels))
    return Representation(u_mean, z_mean)
