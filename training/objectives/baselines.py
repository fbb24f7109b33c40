"""The unsupervised baselines of Table 1 without an auxiliary network: VAE, beta-VAE and beta-TCVAE.

They have no classes: the model has z alone, with as many dimensions as PartedVAE's u and z together, as in the paper.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from partedvae.training.config.schedules import Schedule
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.distributed import DistributedContext, ShardedNoise
from partedvae.training.model.distributions import Gaussian, kl_to_standard
from partedvae.training.model.partedvae import PartedVAE
from partedvae.training.objectives.method import MethodOutput, StatelessMethod
from partedvae.training.objectives.terms import reconstruction_error


def encode_and_decode(
    model: PartedVAE,
    pixels: Float[Tensor, "batch channels height width"],
    slope: float,
    kind: str,
    noise: ShardedNoise,
) -> tuple[Gaussian, Float[Tensor, "batch dim"], Float[Tensor, ""]]:
    """Return q(z | x), one sample of it per image, and the mean reconstruction error of the samples.

    Args:
        model: the networks.
        pixels: images in [0, 1] at the network's size.
        slope: steepness of the attention.
        kind: reconstruction error, "bce" or "l1".
        noise: source of random numbers.
    """
    posterior = model.encode(pixels, slope=slope)
    z = posterior.z.sample(noise)
    logits = model.decoder.logits(posterior.u_mean, z)
    return posterior.z, z, reconstruction_error(logits, pixels, kind).mean()


class BetaVAE(StatelessMethod):
    """Reconstruction plus beta times KL(q(z | x) || p(z)) (Higgins et al. 2017); the VAE has beta 1."""

    term_names = ("reconstruction", "kl_z")

    def __init__(self, config: TrainConfig, context: DistributedContext) -> None:
        """Create the method.

        Args:
            config: configuration of the run; `baseline.weight` is beta.
            context: the processes that train together.
        """
        self.beta = config.baseline.weight
        self.kind = config.objective.reconstruction
        self.noise = context.noise

    def losses(
        self, model: PartedVAE, pixels: Float[Tensor, "batch channels height width"], schedule: Schedule
    ) -> MethodOutput:
        """Return the weighted sum of the two terms."""
        q, _, reconstruction = encode_and_decode(model, pixels, schedule.attention_slope, self.kind, self.noise)
        kl = kl_to_standard(q).mean()
        return MethodOutput(reconstruction + self.beta * kl, {"reconstruction": reconstruction, "kl_z": kl})


class BetaTCVAE(StatelessMethod):
    """Beta on the total correlation alone (Chen et al. 2018, Eq. 4, with alpha and gamma 1)."""

    term_names = ("reconstruction", "kl_z", "mutual_information", "total_correlation", "dimension_kl")

    def __init__(self, config: TrainConfig, context: DistributedContext, train_images: int) -> None:
        """Create the method.

        Args:
            config: configuration of the run; `baseline.weight` is beta.
            context: the processes that train together.
            train_images: number of training images, for the estimate of q(z).
        """
        self.beta = config.baseline.weight
        self.kind = config.objective.reconstruction
        self.noise = context.noise
        self.train_images = train_images

    def losses(
        self, model: PartedVAE, pixels: Float[Tensor, "batch channels height width"], schedule: Schedule
    ) -> MethodOutput:
        """Decompose the KL into three terms and return their weighted sum. Each rank estimates q(z) from its images."""
        q, z, reconstruction = encode_and_decode(model, pixels, schedule.attention_slope, self.kind, self.noise)
        information, correlation, dimensions = decomposed_kl(q, z, self.train_images)
        loss = reconstruction + information + self.beta * correlation + dimensions
        terms = (reconstruction, kl_to_standard(q).mean(), information, correlation, dimensions)
        return MethodOutput(loss, dict(zip(self.term_names, terms, strict=True)))


def decomposed_kl(
    q: Gaussian, z: Float[Tensor, "batch dim"], train_images: int
) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, ""]]:
    """Estimate mutual information, total correlation and dimension-wise KL, in nats (Chen et al. 2018, Eq. 2).

    q(z) is estimated by minibatch weighted sampling (their Eq. 3): the mean of q(z | x_j) over the images of the batch,
    each of which stands for an equal part of the data set.

    Args:
        q: q(z | x) of the batch.
        z: one sample of q(z | x) per image.
        train_images: number of training images.
    """
    pairwise = log_density(z.unsqueeze(1), Gaussian(q.mean.unsqueeze(0), q.logvar.unsqueeze(0)))
    log_weight = math.log(len(z) * train_images)
    log_joint = torch.logsumexp(pairwise.sum(dim=2), dim=1) - log_weight
    log_product = (torch.logsumexp(pairwise, dim=1) - log_weight).sum(dim=1)
    log_posterior = log_density(z, q).sum(dim=1)
    log_prior = log_density(z, Gaussian(torch.zeros_like(z), torch.zeros_like(z))).sum(dim=1)
    return (
        (log_posterior - log_joint).mean(),
        (log_joint - log_product).mean(),
        (log_product - log_prior).mean(),
    )


def log_density(z: Float[Tensor, "*any dim"], q: Gaussian) -> Float[Tensor, "*broadcast dim"]:
    """Return log q(z) in nats for each dimension; shapes broadcast."""
    return -0.5 * (math.log(2 * math.pi) + q.logvar + (z - q.mean).square() * (-q.logvar).exp())
