"""Names in errors: the nearest known name of a misspelt one, lookups with it, and texts cut to a length."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")

CUTOFF = 0.6
"""Similarity (`difflib`'s ratio, 0 to 1) below which a name is not suggested."""
MAX_NAME = 200
"""Characters of the longest name that is compared with others: the time grows with the square of the length."""
MAX_KNOWN = 50
"""Names that are all compared; of more, the first ones with the same initial. A server answers others meanwhile, and a
hundred names take up to 60 ms."""


def shortened(text: str, length: int = MAX_NAME) -> str:
    """Return a text of at most `length` characters, with an ellipsis where it was longer."""
    return text if len(text) <= length else text[: length - 1] + "…"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the nearest known name, or an empty string."""
    near = nearest(name, known)
    return f"; did you mean {near!r}?" if near else ""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most similar, None where none is similar enough, or the name is very long."""
    if len(name) > MAX_NAME:
        return None
    candidates = list(known)
    if len(candidates) > MAX_KNOWN:
        candidates = [other for other in candidates if other[:1].lower() == name[:1].lower()][:MAX_KNOWN]
    near = difflib.get_close_matches(name, candidates, n=1, cutoff=CUTOFF)
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
