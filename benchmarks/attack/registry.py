"""All attacks, by name."""

from __future__ import annotations

from benchmarks.attack.attack import Attack
from benchmarks.attack.attacks import (
    calls,
    combined,
    compression,
    connections,
    fields,
    frames,
    metadata,
    pictures,
    refusals,
    streams,
    unfinished,
    unread,
)

MODULES = (
    refusals,
    fields,
    compression,
    unread,
    unfinished,
    pictures,
    streams,
    calls,
    metadata,
    connections,
    frames,
    combined,
)

ATTACKS: dict[str, Attack] = {
    attack.name: attack for module in MODULES for attack in vars(module).values() if isinstance(attack, Attack)
}
"""In the order of the table."""
