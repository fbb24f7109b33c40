"""Looking things up by a name that a user typed: the answer, or an error that suggests the nearest."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


def lookup(kind: str, name: str, table: Mapping[str, T]) -> T:
    """Return `table[name]`.

    Raises:
        ValueError: no such name; the message has the nearest one and all others.
    """
    if name in table:
        return table[name]
    raise ValueError(f"no {kind} is called {name!r}{nearest(name, table)} (there are: {', '.join(table)})")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
