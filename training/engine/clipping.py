"""Clipping of gradients that are much larger than those of the steps before."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

DECAY = 0.9
"""Decay of the moving average per step: it spans about ten steps, as norms fall quickly at the start of a run."""


class GradientClipper:
    """Scales gradients down to a multiple of the moving average of their norm.

    Adam divides a gradient that is much larger than usual by its own size, but the momentum then consists of little
    else, and moves all parameters in its direction for about ten steps. On MNIST, such a gradient, in which u of some
    images was far from all modes of the prior, removed a class from the classifier (docs/METHOD.md). Norms depend on
    the data set, on the weights of the terms and on how far training is, so that no fixed limit suits all steps.
    """

    def __init__(self, factor: float, device: torch.device) -> None:
        """Create the clipper; it does not clip the first gradient.

        Args:
            factor: largest norm, as a multiple of the moving average of the clipped norms.
            device: device of the gradients.
        """
        self.factor = factor
        self.average: Float[Tensor, ""] = torch.full((), torch.inf, device=device)

    def clip(self, parameters: Iterable[nn.Parameter]) -> None:
        """Scale the gradients of parameters in place, by one number that is not copied from the device."""
        parameters = list(parameters)
        norm = get_total_norm(parameter.grad for parameter in parameters if parameter.grad is not None)
        clip_grads_with_norm_(parameters, self.factor, norm / self.average)
        clipped = torch.minimum(norm, self.factor * self.average)
        following = torch.where(self.average.isinf(), clipped, DECAY * self.average + (1 - DECAY) * clipped)
        # An average of zero or NaN would stay so.
        self.average = torch.where(norm.isfinite() & (norm > 0), following, self.average)

    def state_dict(self) -> dict[str, Any]:
        """Return the moving average."""
        return {"average": self.average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state returned by `state_dict`."""
        self.average = state["average"].to(self.average.device)
