"""The keys with which classes are chosen."""

from __future__ import annotations

from collections.abc import Iterable

UNDO, SKIP = "u", " "
"""Keys of the other actions; Backspace undoes too."""
FREE = "123456789abcdefghijklmnopqrstvwxyz0"
"""Keys of classes whose name is not a key, in order."""


def keys_of(classes: Iterable[str]) -> dict[str, str]:
    """Return a key for each class: its name where that is a digit or letter, or the next free one; none is left at 36.

    Args:
        classes: names of the classes.
    """
    names = list(classes)
    keys: dict[str, str] = {}
    for name in names:
        if len(name) == 1 and name.lower() in FREE and name.lower() not in keys.values():
            keys[name] = name.lower()
    free = iter([key for key in FREE if key not in keys.values()])
    for name in names:
        if name not in keys and (key := next(free, None)) is not None:
            keys[name] = key
    return keys
