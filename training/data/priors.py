"""p(c_k) estimated from labels."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from partedvae.training.data.dataset import UNLABELLED


def estimated_prior(labels: Int[Tensor, " count"], classes: int) -> tuple[float, ...]:
    """Return each class's share of the labels with add-one smoothing.

    So no class is impossible, and without labels all are equally probable.

    Args:
        labels: of one factor; -1 is left out.
        classes: number of its classes.
    """
    counts = torch.bincount(labels[labels != UNLABELLED], minlength=classes) + 1
    return tuple((counts.double() / counts.sum()).tolist())
