"""URLs among paths."""

from __future__ import annotations

import re

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""The start of a URL, with one slash, since pathlib merges two; the scheme has two letters, unlike a Windows drive."""


def is_url(text: str) -> bool:
    """Return whether a text is a URL rather than a path."""
    return _SCHEME.match(text) is not None
