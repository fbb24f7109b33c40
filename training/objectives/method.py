"""What the trainer asks of a method: a loss to minimise on each batch, and perhaps something to do after the step."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from partedvae.training.config.schedules import Schedule
from partedvae.training.model.partedvae import PartedVAE


class Losses(NamedTuple):
    """What a method says of a batch."""

    total: Float[Tensor, ""]
    """What the step minimises."""
    terms: dict[str, Tensor]
    """What is worth reporting, by name; the same names at every step."""


@runtime_checkable
class Method(Protocol):
    """One way to train the networks on images without labels."""

    @property
    def term_names(self) -> tuple[str, ...]:
        """Names of the terms, in the order of reports."""

    def losses(
        self, model: PartedVAE, pixels: Float[Tensor, "batch channels height width"], schedule: Schedule
    ) -> Losses:
        """Compute the loss of a batch of images in [0, 1] at the network's size."""

    def after_step(self) -> None:
        """Do what follows the model's step: train a helper network, for instance."""

    def state_dict(self) -> dict[str, Any]:
        """Return what must be saved beside the model."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a saved state."""


class Stateless:
    """A method that has nothing to save and nothing to do after the step."""

    def after_step(self) -> None:
        """Do nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore nothing."""
