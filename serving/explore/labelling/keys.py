"""The keys with which classes are chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

UNDO, SKIP = "u", " "
"""Keys of the other actions; Backspace undoes too."""
FREE = "123456789abcdefghijklmnopqrstvwxyz0"
"""Keys of classes whose name is not a key, in order."""


def keys_of(classes: Iterable[str], assigned: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return a key for each class: its name where that is a digit or letter, or the next free one; none is left at 36.

    Args:
        classes: names of the classes.
        assigned: keys that classes have already, and keep.
    """
    keys = dict(assigned or {})
    names = [name for name in classes if name not in keys]
    for name in names:
        if len(name) == 1 and name.lower() in FREE and name.lower() not in keys.values():
            keys[name] = name.lower()
    free = iter([key for key in FREE if key not in keys.values()])
    for name in names:
        if name not in keys and (key := next(free, None)) is not None:
            keys[name] = key
    return keys
