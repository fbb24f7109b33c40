"""URLs among paths."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit
from urllib.request import url2pathname

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""The start of a URL, with one slash, since pathlib merges two; the scheme has two letters, unlike a Windows drive."""


def is_url(text: str) -> bool:
    """Return whether a text is a URL rather than a path."""
    return _SCHEME.match(text) is not None


def without_file_scheme(text: str) -> str:
    """Return the path of a `file:` URL, whose special characters are encoded by percents; other texts as they are."""
    if is_url(text) and urlsplit(text).scheme == "file":
        return url2pathname(urlsplit(text).path)
    return text


def without_credentials(text: str) -> str:
    """Return a URL without user, password, query and fragment, which may be secrets; paths as they are."""
    if not is_url(text):
        return text
    parts = urlsplit(text)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
