"""Losses of earlier versions, whose names have changed since: their checkpoints are read under the current ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

EPOCH_SUMS = (
    "loss",
    "reconstruction",
    "kl_z",
    "kl_u",
    "entropy",
    "kl_c",
    "bhattacharyya",
    "consistency",
    "leakage",
    "exchange",
    "supervised",
)
"""Order of PartedVAE's losses in the checkpoints of 0.2.0 and before, which have no names."""


def current_epoch_sums(stored: Mapping[str, float] | Tensor, names: Sequence[str]) -> dict[str, float]:
    """Return the sums of an epoch's losses by name.

    Args:
        stored: the sums of a checkpoint: by name, or up to 0.2.0 a tensor.
        names: names of the method's losses; the order of those of a baseline has not changed.
    """
    if isinstance(stored, Mapping):
        return dict(stored)
    return dict(zip(names if len(stored) == len(names) else EPOCH_SUMS, stored.tolist(), strict=True))
