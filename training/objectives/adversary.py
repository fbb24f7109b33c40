"""An adversary that predicts the classes from z, so that the encoder can remove from z what it finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from torch.optim import Adam

from partedvae.training.distributed import DistributedContext
from partedvae.training.model.distributions import Gaussian
from partedvae.training.model.networks import leaky_mlp
from partedvae.training.objectives.regularisers import with_fixed_parameters

LAYERS, UNITS, SLOPE = 2, 256, 0.2
"""Hidden layers of the network, units per layer, and the slope of its leaky ReLU."""
RATE, BETAS = 2e-3, (0.5, 0.9)
"""Learning rate and betas of the network's Adam."""
UPDATES = 4
"""Updates of the network per training step, on batches chosen at random from the last `MEMORY`. With one, the encoder
stayed ahead of it: a probe trained afterwards found 27 % of MNIST's digits in z rather than 24 %."""
MEMORY = 8
"""Batches of z that are kept for these updates."""
FLOOR = -0.05
"""An estimate in nats below zero means that the network is wrong; below this, the encoder would only mislead it."""


class ClassAdversary:
    """A network that predicts the class of every class variable from z."""

    def __init__(self, z_dim: int, classes: Sequence[int], context: DistributedContext, device: torch.device) -> None:
        """Create the network.

        Args:
            z_dim: number of dimensions of z.
            classes: number of classes of each class variable that it predicts.
            context: the processes that train together.
            device: device of the network.
        """
        self.context = context
        self.classes = list(classes)
        self.network = leaky_mlp([z_dim, *[UNITS] * LAYERS], sum(self.classes), SLOPE).to(device)
        self.optimiser = Adam(self.network.parameters(), RATE, BETAS, fused=True)
        self._batches: list[tuple[Tensor, list[Tensor]]] = []

    def information(self, z: Gaussian, probs: Sequence[Float[Tensor, "batch _"]]) -> Float[Tensor, ""]:
        """Return a lower bound of I(z; c) in nats, summed over the class variables: H(q(c)) minus the cross-entropy.

        No gradient flows into the classes and the network, so that z changes. A half of the images shows the mean of
        q(z | x) and the other half a sample, because the features that are served are means.

        Args:
            z: q(z | x) of this rank's images.
            probs: q(c_k | x) of the class variables.
        """
        even = torch.arange(len(z.mean), device=z.mean.device).unsqueeze(1) % 2 == 0
        shown = torch.where(even, z.mean, z.sample(self.context.noise))
        targets = [p.detach() for p in probs]
        self._batches = [*self._batches, (shown.detach(), targets)][-MEMORY:]
        logits = with_fixed_parameters(self.network, shown).float().split(self.classes, dim=1)
        found = []
        for predicted, target in zip(logits, targets, strict=True):
            share = self.context.mean(target.mean(dim=0))
            entropy = -torch.xlogy(share, share).sum()
            found.append((entropy - functional.cross_entropy(predicted, target)).clamp(min=FLOOR))
        return torch.stack(found).sum()

    def update(self) -> None:
        """Train the network on the last batch, and on batches before it."""
        choices = [len(self._batches) - 1, *torch.randint(len(self._batches), (UPDATES - 1,)).tolist()]
        for z, targets in (self._batches[choice] for choice in choices):
            logits = self.network(z).split(self.classes, dim=1)
            errors = [functional.cross_entropy(p, t) for p, t in zip(logits, targets, strict=True)]
            self.optimiser.zero_grad()
            torch.stack(errors).sum().backward()
            self.context.average_gradients(self.network.parameters())
            self.optimiser.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the network and its optimiser, and the batches it remembers."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "batches": self._batches,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state returned by `state_dict`."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self._batches = state["batches"]
