"""Suggestions for misspelt names: the nearest known name, and lookups with it in their errors."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")

CUTOFF = 0.6
"""Similarity (`difflib`'s ratio, 0 to 1) below which a name is not suggested."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the nearest known name, or an empty string."""
    near = nearest(name, known)
    return f"; did you mean {near!r}?" if near else ""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most similar, None where none is similar enough."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=CUTOFF)
    return near[0] if near else None


def lookup(kind: str, name: str, table: Mapping[str, T]) -> T:
    """Return `table[name]`.

    Args:
        kind: what the names stand for, for the error.
        name: as the user typed it.
        table: values by name.

    Raises:
        ValueError: the name is unknown; the message has the nearest one and all others.
    """
    if name in table:
        return table[name]
    raise ValueError(f"no {kind} is called {name!r}{did_you_mean(name, table)} (there are: {', '.join(table)})")
