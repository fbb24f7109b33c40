"""Contrastive learning: features that augmentation does not change (SimCLR, Chen et al. 2020), for `partedvae suggest`.

Not in the paper. Images of one class are near each other in these features before any image has a label, much more than
in those of an unsupervised VAE (docs/METHOD.md has the comparison): `suggest` finds typical images of clusters in them.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from partedvae.training.config.schedules import Schedule
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.data.augment import random_affine
from partedvae.training.distributed import DistributedContext
from partedvae.training.model.distributions import Gaussian, kl_to_standard
from partedvae.training.model.partedvae import PartedVAE
from partedvae.training.objectives.method import MethodOutput, StatelessMethod
from partedvae.training.objectives.terms import reconstruction_error

RADIUS_WEIGHT = 0.1
"""Weight of the term that keeps z where samples of N(0, I) are."""


class Contrastive(StatelessMethod):
    """Trains the mean of q(z | x) with two augmented copies of each image, and the decoder for it.

    The means lie near the sphere of radius sqrt(z_dim), where samples of N(0, I) lie, and the loss spreads them evenly
    over it (Wang and Isola 2020), so that the prior of z stays N(0, I). The decoder and the variances are trained as
    those of a VAE, without changing the means: the features do not depend on the reconstruction.
    """

    term_names = ("contrastive", "reconstruction", "kl_z")

    def __init__(self, config: TrainConfig, context: DistributedContext) -> None:
        """Create the method.

        Args:
            config: configuration of the run; `baseline.weight` is the temperature.
            context: the processes that train together; each contrasts its own images.
        """
        self.temperature = config.baseline.weight
        self.kind = config.objective.reconstruction
        self.noise = context.noise

    def losses(
        self, model: PartedVAE, pixels: Float[Tensor, "batch channels height width"], schedule: Schedule
    ) -> MethodOutput:
        """Contrast two copies of each image, and reconstruct the first."""
        first = random_affine(pixels, self.noise)
        hidden = model.trunk(torch.cat([first, random_affine(pixels, self.noise)]))
        means = model.z_head(hidden).float().chunk(2, dim=-1)[0]
        contrast = nt_xent(means, self.temperature)
        radius = (means.square().mean(dim=-1) - 1).square().mean()

        count = len(pixels)
        logvar = model.z_head(hidden[:count].detach()).float().chunk(2, dim=-1)[1]
        q = Gaussian(means[:count].detach(), logvar)
        logits = model.decoder.logits(means.new_zeros(count, 0), q.sample(self.noise))
        reconstruction = reconstruction_error(logits, first, self.kind).mean()
        kl = kl_to_standard(q).mean()
        loss = contrast + RADIUS_WEIGHT * radius + reconstruction + kl
        return MethodOutput(loss, {"contrastive": contrast, "reconstruction": reconstruction, "kl_z": kl})


def nt_xent(z: Float[Tensor, "both dim"], temperature: float) -> Float[Tensor, ""]:
    """Return the normalised temperature-scaled cross-entropy of pairs, in nats (Chen et al. 2020, Eq. 1).

    Args:
        z: features of the first copies of all images, then those of the second copies.
        temperature: of the cosine similarities.
    """
    directions = functional.normalize(z, dim=-1)
    similarities = directions @ directions.T / temperature
    similarities = similarities.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), -torch.inf)
    return functional.cross_entropy(similarities, torch.arange(len(z), device=z.device).roll(len(z) // 2))
