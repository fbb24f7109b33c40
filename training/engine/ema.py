"""The exponential moving average (EMA) of the weights, which is the model that is evaluated and exported."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from partedvae.training.model.partedvae import PartedVAE


def ema_of(model: PartedVAE, decay: float) -> AveragedModel:
    """Return an exponential moving average of a model's weights, to be updated after every step.

    Args:
        model: the model that is trained.
        decay: final decay; it is smaller at first, so that the random initial weights soon leave the average.
    """
    ema = AveragedModel(model, multi_avg_fn=_ramped_ema(decay))
    for parameter in ema.parameters():
        parameter.requires_grad_(False)
    return ema


def _ramped_ema(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """Return an update function whose decay after n updates is min(decay, (1 + n) / (10 + n))."""

    def update(average: Sequence[Tensor], current: Sequence[Tensor], updates: Tensor | int) -> None:
        count = int(updates)
        get_ema_multi_avg_fn(min(decay, (1 + count) / (10 + count)))(list(average), list(current), count)

    return update
