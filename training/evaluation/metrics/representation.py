"""The representation that scores and probes are computed on: the posteriors of all images."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from partedvae.training.config.train_config import TrainConfig
from partedvae.training.data.dataset import Images
from partedvae.training.evaluation.evaluation import posteriors
from partedvae.training.model.partedvae import PartedVAE


class Latents(NamedTuple):
    """u and z of images: posterior means, or samples."""

    u: Float[np.ndarray, "images u_dim"]
    """All u_k, concatenated."""
    z: Float[np.ndarray, "images z_dim"]
    """z."""


class Representation(NamedTuple):
    """Posteriors of images, float32."""

    u_mean: Float[np.ndarray, "images u_dim"]
    """The class-related features: all u_k, concatenated, given the most probable classes of each image."""
    z_mean: Float[np.ndarray, "images z_dim"]
    """The class-independent features."""
    u_logvar: Float[np.ndarray, "images u_dim"]
    """Log-variances of q(u | c', x)."""
    z_logvar: Float[np.ndarray, "images z_dim"]
    """Log-variances of q(z | x)."""

    @property
    def joined(self) -> Float[np.ndarray, "images dims"]:
        """The means of z, then of u: the representation for the paper's Factor scores."""
        return np.concatenate([self.z_mean, self.u_mean], axis=1)

    @property
    def means(self) -> Latents:
        """The posterior means."""
        return Latents(self.u_mean, self.z_mean)

    def samples(self, rng: np.random.Generator) -> Latents:
        """Return one sample of q(u, z | x) for each image."""
        pairs = ((self.u_mean, self.u_logvar), (self.z_mean, self.z_logvar))
        return Latents(*(_sample(mean, logvar, rng) for mean, logvar in pairs))


def represent(
    model: PartedVAE, images: Images, config: TrainConfig, progress: Callable[[int], object] | None = None
) -> Representation:
    """Return the posteriors of images, in their order.

    Images are read batch by batch and only the posteriors are kept: 8 bytes per dimension and image, 59 MB for the
    737,280 images of dSprites and ten dimensions.

    Args:
        model: the trained model, on any device.
        images: uint8 images, in memory or loaded on access.
        config: the run's configuration.
        progress: called after each batch with its number of images, like tqdm's `update`.
    """
    u_dim, z_dim = model.config.u_dim, model.config.z_dim
    means = np.empty((len(images), u_dim + z_dim), dtype=np.float32)
    logvars = np.empty_like(means)
    done = 0
    for pixels, posterior in posteriors(model, images, config):
        batch = slice(done, done + len(pixels))
        gaussians = [*(factor.u for factor in posterior.factors), posterior.z]
        means[batch] = torch.cat([gaussian.mean for gaussian in gaussians], dim=1).cpu().numpy()
        logvars[batch] = torch.cat([gaussian.logvar for gaussian in gaussians], dim=1).cpu().numpy()
        done += len(pixels)
        if progress is not None:
            progress(len(pixels))
    return Representation(means[:, :u_dim], means[:, u_dim:], logvars[:, :u_dim], logvars[:, u_dim:])


def _sample(
    mean: Float[np.ndarray, "images dims"], logvar: Float[np.ndarray, "images dims"], rng: np.random.Generator
) -> Float[np.ndarray, "images dims"]:
    return mean + np.exp(0.5 * logvar) * rng.standard_normal(mean.shape, dtype=np.float32)
