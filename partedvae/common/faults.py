"""Error messages of several faults, so that a folder is repaired in one go instead of one fault per attempt."""

from __future__ import annotations

from collections.abc import Sequence

LISTED = 10
"""Faults that a message lists."""


def listed(faults: Sequence[str], what: str) -> str:
    """Return one message for several faults, of bounded length; a single fault is its own message.

    Args:
        faults: at least one message, each with its remedy.
        what: noun for the count, in the plural, such as "images cannot be read".
    """
    if len(faults) == 1:
        return faults[0]
    lines = [f"{len(faults):,} {what}:", *faults[:LISTED]]
    if len(faults) > LISTED:
        lines.append(f"… and {len(faults) - LISTED:,} more")
    return "\n  ".join(lines)
