"""Integers that somebody else has written: in a URL, a header or a feature file."""

from __future__ import annotations

DIGITS = 18
"""Most digits. All such numbers are int64, and Python raises an error for numbers of thousands of digits."""


def integer_of(text: str) -> int | None:
    """Return a number of digits alone, which is at least zero; None for other texts, and for longer ones."""
    return int(text) if text.isdecimal() and len(text) <= DIGITS else None
