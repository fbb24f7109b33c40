"""The interface between the trainer and a training method: a loss per batch, and an optional step after the model's."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from partedvae.training.config.schedules import Schedule
from partedvae.training.model.partedvae import PartedVAE


class MethodOutput(NamedTuple):
    """The loss of a batch and its terms."""

    loss: Float[Tensor, ""]
    """The value to minimise."""
    terms: dict[str, Tensor]
    """Unweighted terms by name, for reports; the names are `Method.term_names`."""


@runtime_checkable
class Method(Protocol):
    """A way to train the networks on unlabelled images."""

    @property
    def term_names(self) -> tuple[str, ...]:
        """Names of the terms, in the order of reports."""

    def losses(
        self, model: PartedVAE, pixels: Float[Tensor, "batch channels height width"], schedule: Schedule
    ) -> MethodOutput:
        """Return the loss of a batch.

        Args:
            model: the networks.
            pixels: images in [0, 1] at the network's size.
            schedule: the scheduled values at this step.
        """

    def after_step(self) -> None:
        """Do the work that follows the optimiser step of the model, such as a step of an auxiliary network."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state to store in checkpoints, besides that of the model."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state returned by `state_dict`."""


class StatelessMethod:
    """Base of methods without state and without work after the step."""

    def after_step(self) -> None:
        """Do nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing."""
