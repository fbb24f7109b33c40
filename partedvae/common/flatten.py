"""Nested values as one dictionary by dotted key, as `--set` names the fields of a configuration."""

from __future__ import annotations

from typing import Any


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested dictionaries as one, by dotted key.

    Args:
        values: the values; those that are no dictionaries are kept as they are.
        prefix: beginning of every key.
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
