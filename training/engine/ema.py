"""The moving average of the weights: the model that is evaluated and exported."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from partedvae.training.model.partedvae import PartedVAE


def averaged(model: PartedVAE, decay: float) -> AveragedModel:
    """Return an exponential moving average of the model's weights, to be updated after every step."""
    average = AveragedModel(model, multi_avg_fn=_ramped(decay))
    for parameter in average.parameters():
        parameter.requires_grad_(False)
    return average


def _ramped(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """Let the decay rise to its value, so that the first random weights do not stay in the average for long."""

    def update(average: Sequence[Tensor], current: Sequence[Tensor], updates: Tensor | int) -> None:
        count = int(updates)
        get_ema_multi_avg_fn(min(decay, (1 + count) / (10 + count)))(list(average), list(current), count)

    return update
