"""Names of earlier versions that have changed since: files of its runs are read under the current ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

CONFIG_KEYS = {"objective.overlap_tolerance": "objective.bc_threshold"}
"""Current dotted keys of config.json and `--set`, by their old ones."""
REMOVED_CONFIG_KEYS = ("objective.gamma_leakage",)
"""Keys of config.json that are ignored: weights of terms that 0.2.0 and before had."""
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
METRICS = {"prior_mismatch": "kl_c", "overlap": "bhattacharyya"}
"""Current names in metrics.jsonl, by their old ones."""


def current_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the contents of a config.json with the current keys."""
    current = {key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    for old, new in CONFIG_KEYS.items():
        section, _, field = old.partition(".")
        if field in current[section]:
            current[section][new.partition(".")[2]] = current[section].pop(field)
    for removed in REMOVED_CONFIG_KEYS:
        section, _, field = removed.partition(".")
        current[section].pop(field, None)
    return current


def current_metrics(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of metrics.jsonl with the current names."""
    return {METRICS.get(name, name): value for name, value in row.items()}


def current_epoch_sums(stored: Mapping[str, float] | Tensor, names: Sequence[str]) -> dict[str, float]:
    """Return the sums of an epoch's losses by name.

    Args:
        stored: the sums of a checkpoint: by name, or up to 0.2.0 a tensor.
        names: names of the method's losses; the order of those of a baseline has not changed.
    """
    if isinstance(stored, Mapping):
        return dict(stored)
    return dict(zip(names if len(stored) == len(names) else EPOCH_SUMS, stored.tolist(), strict=True))
