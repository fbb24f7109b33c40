"""FactorVAE (Kim and Mnih 2018): a VAE with a penalty on the total correlation of z, estimated by a discriminator."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from torch.optim import Adam

from partedvae.training.config.schedules import Schedule
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.distributed import DistributedContext
from partedvae.training.model.distributions import kl_to_standard
from partedvae.training.model.networks import leaky_mlp
from partedvae.training.model.partedvae import PartedVAE
from partedvae.training.objectives.baselines import encode_and_decode
from partedvae.training.objectives.method import MethodOutput
from partedvae.training.objectives.regularisers import with_fixed_parameters

LAYERS, UNITS, SLOPE = 6, 1000, 0.2
"""The discriminator: hidden layers, units per layer, slope of the leaky ReLU.

Those of disentanglement_lib's `fc_discriminator`, which gives appendix A of Kim and Mnih as its source: six layers of
1,000 units, then two logits.
"""
RATE, BETAS = 1e-4, (0.5, 0.9)
"""Learning rate and betas of the discriminator's Adam, also from their appendix A."""


class FactorVAE:
    """The VAE's loss plus gamma times the estimated total correlation; the discriminator is updated after each step."""

    term_names = ("reconstruction", "kl_z", "total_correlation", "discriminator")

    def __init__(self, config: TrainConfig, context: DistributedContext, device: torch.device) -> None:
        """Create the method and its discriminator.

        Args:
            config: configuration of the run; `baseline.weight` is gamma.
            context: the processes that train together.
            device: device of the discriminator.
        """
        self.gamma = config.baseline.weight
        self.kind = config.objective.reconstruction
        self.context = context
        self._build(LAYERS, config.model.z_dim, device)
        self._z = torch.zeros(0, config.model.z_dim, device=device)
        self._loss = torch.zeros((), device=device)

    def losses(
        self, model: PartedVAE, pixels: Float[Tensor, "batch channels height width"], schedule: Schedule
    ) -> MethodOutput:
        """Return the weighted sum of the terms.

        The total correlation is the discriminator's log-odds of an unpermuted sample (their Eq. 3).
        """
        q, z, reconstruction = encode_and_decode(model, pixels, schedule.attention_slope, self.kind, self.context.noise)
        self._z = z.detach()
        joint, permuted = with_fixed_parameters(self.discriminator, z).float().unbind(dim=1)
        correlation, kl = (joint - permuted).mean(), kl_to_standard(q).mean()
        self._loss = self._discriminator_loss()
        terms = (reconstruction, kl, correlation, self._loss.detach())
        loss = reconstruction + kl + self.gamma * correlation
        return MethodOutput(loss, dict(zip(self.term_names, terms, strict=True)))

    def after_step(self) -> None:
        """Train the discriminator to separate z from z with each dimension permuted over the batch.

        Their Algorithm 2 permutes a second batch; like disentanglement_lib, this permutes the same one.
        """
        self.optimiser.zero_grad()
        self._loss.backward()
        self.context.average_gradients(self.discriminator.parameters())
        self.optimiser.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the discriminator and its optimiser."""
        return {"discriminator": self.discriminator.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state returned by `state_dict`; runs of version 0.2 and earlier have five hidden layers."""
        layers = sum(name.endswith(".weight") for name in state["discriminator"]) - 1
        if layers != LAYERS:
            self._build(layers, self._z.shape[1], self._z.device)
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimiser.load_state_dict(state["optimiser"])

    def _build(self, layers: int, z_dim: int, device: torch.device) -> None:
        """Create the discriminator with a number of hidden layers, and its optimiser."""
        self.discriminator = leaky_mlp([z_dim, *[UNITS] * layers], 2, SLOPE).to(device)
        self.optimiser = Adam(self.discriminator.parameters(), RATE, BETAS, fused=True)

    def _discriminator_loss(self) -> Float[Tensor, ""]:
        logits = self.discriminator(torch.cat([self._z, permute_dimensions(self._z, self.context)]))
        classes = torch.cat([torch.zeros(len(self._z)), torch.ones(len(self._z))]).long().to(logits.device)
        return functional.cross_entropy(logits, classes)


def permute_dimensions(z: Float[Tensor, "batch dim"], context: DistributedContext) -> Float[Tensor, "batch dim"]:
    """Permute each dimension over the batch independently: a sample of the product of q(z_j) (their Algorithm 1)."""
    order = context.noise.uniform(z).argsort(dim=0)
    return z.gather(0, order)
