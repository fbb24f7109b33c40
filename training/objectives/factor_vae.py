"""FactorVAE (Kim and Mnih 2018): a VAE that pays for the total correlation of z, as a discriminator estimates it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam

from partedvae.training.config.schedules import Schedule
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.distributed import Ranks
from partedvae.training.model.distributions import kl_to_standard
from partedvae.training.model.partedvae import PartedVAE
from partedvae.training.objectives.baselines import encode_and_decode
from partedvae.training.objectives.method import Losses

LAYERS, UNITS, SLOPE = 5, 1000, 0.2
"""The discriminator of their appendix A: hidden layers, their width, the leaky ReLU's slope."""
RATE, BETAS = 1e-4, (0.5, 0.9)
"""Its Adam, from the same place."""


class FactorVAE:
    """The VAE's loss plus gamma times the estimated total correlation; the discriminator learns after each step."""

    term_names = ("reconstruction", "kl_z", "total_correlation", "discriminator")

    def __init__(self, config: TrainConfig, ranks: Ranks, device: torch.device) -> None:
        """Make the discriminator for the model's z."""
        self.gamma = config.baseline.weight
        self.kind = config.objective.reconstruction
        self.ranks = ranks
        widths = [config.model.z_dim, *[UNITS] * LAYERS]
        hidden: list[nn.Module] = []
        for before, after in pairwise(widths):
            hidden += [nn.Linear(before, after), nn.LeakyReLU(SLOPE)]
        self.discriminator = nn.Sequential(*hidden, nn.Linear(UNITS, 2)).to(device)
        self.optimiser = Adam(self.discriminator.parameters(), RATE, BETAS, fused=True)
        self._z = torch.zeros(0, config.model.z_dim, device=device)
        self._loss = torch.zeros((), device=device)

    def losses(
        self, model: PartedVAE, pixels: Float[Tensor, "batch channels height width"], schedule: Schedule
    ) -> Losses:
        """Weigh the terms; the total correlation is the discriminator's log-odds of a real draw (their Eq. 3)."""
        q, z, reconstruction = encode_and_decode(model, pixels, schedule.attention_slope, self.kind, self.ranks.noise)
        self._z = z.detach()
        real, permuted = self.discriminator(z).unbind(dim=1)
        correlation, kl = (real - permuted).mean(), kl_to_standard(q).mean()
        self._loss = self._discriminator_loss()
        terms = (reconstruction, kl, correlation, self._loss.detach())
        return Losses(reconstruction + kl + self.gamma * correlation, dict(zip(self.term_names, terms, strict=True)))

    def after_step(self) -> None:
        """Let the discriminator tell the batch's z from z with each dimension shuffled over the batch.

        Their Algorithm 2 shuffles a second batch; like disentanglement_lib, this shuffles the same one.
        """
        self.optimiser.zero_grad()
        self._loss.backward()
        self.ranks.average_gradients(self.discriminator.parameters())
        self.optimiser.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the discriminator and its optimiser."""
        return {"discriminator": self.discriminator.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a saved state."""
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimiser.load_state_dict(state["optimiser"])

    def _discriminator_loss(self) -> Float[Tensor, ""]:
        logits = self.discriminator(torch.cat([self._z, permute_dimensions(self._z, self.ranks)]))
        classes = torch.cat([torch.zeros(len(self._z)), torch.ones(len(self._z))]).long().to(logits.device)
        return functional.cross_entropy(logits, classes)


def permute_dimensions(z: Float[Tensor, "batch dim"], ranks: Ranks) -> Float[Tensor, "batch dim"]:
    """Shuffle each dimension over the batch by itself: a draw from the product of q(z_j) (their Algorithm 1)."""
    order = ranks.noise.uniform(z).argsort(dim=0)
    return z.gather(0, order)
