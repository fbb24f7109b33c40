"""Estimation of p(c_k) from labels."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from partedvae.training.data.dataset import UNLABELLED


def estimated_prior(labels: Int[Tensor, " count"], classes: int) -> tuple[float, ...]:
    """Return the relative frequency of each class, with add-one smoothing.

    No class has probability zero, and without labels all classes are equally probable.

    Args:
        labels: labels of one factor; -1 is ignored.
        classes: number of its classes.
    """
    counts = torch.bincount(labels[labels != UNLABELLED], minlength=classes) + 1
    return tuple((counts.double() / counts.sum()).tolist())
