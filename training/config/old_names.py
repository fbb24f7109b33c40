"""Names of version 0.1.0 that have changed since: files of its runs are read under the current ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CONFIG_KEYS = {"objective.overlap_tolerance": "objective.bc_threshold"}
"""Current dotted keys of config.json and `--set`, by their old ones."""
METRICS = {"prior_mismatch": "kl_c", "overlap": "bhattacharyya"}
"""Current names in metrics.jsonl, by their old ones."""


def current_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the contents of a config.json with the current keys."""
    current = {key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    for old, new in CONFIG_KEYS.items():
        section, _, field = old.partition(".")
        if field in current[section]:
            current[section][new.partition(".")[2]] = current[section].pop(field)
    return current


def current_metrics(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of metrics.jsonl with the current names."""
    return {METRICS.get(name, name): value for name, value in row.items()}
