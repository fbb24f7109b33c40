"""Names of earlier versions that have changed since: config.json and metrics.jsonl are read under the current ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CONFIG_KEYS = {"objective.overlap_tolerance": "objective.bc_threshold"}
"""Current dotted keys of config.json and `--set`, by their old ones."""
REMOVED_CONFIG_KEYS = ("objective.gamma_leakage",)
"""Keys of config.json that are ignored: weights of terms that 0.2.0 and before had."""
ADDED_CONFIG_KEYS: dict[str, Any] = {
    "fit": "stretch",
    "features_run": "",
    "model.encoder_paddings": [],
    "model.leaky_slope": 0.0,
    "model.initial_weights": "pytorch",
    "objective.gamma_cycle": 0.0,
    "objective.gamma_adversary": 0.0,
    "objective.gamma_contrast": 0.0,
    "objective.capacity_penalty": "absolute",
    "objective.beta_z": 1.0,
    "objective.beta_z_closed": 10.0,
    "optimiser.clip_factor": 0.0,
    "schedule.capacity_start": 0.0,
    "schedule.z_opening": 0.0,
    "schedule.separation_start": 0.0,
    "supervision.every": 1,
}
"""Keys that earlier versions did not write, with the value that such a run was trained with."""
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
