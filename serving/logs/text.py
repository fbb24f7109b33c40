"""Text of log records that may come from a client: without control characters or credentials, of limited length."""

from __future__ import annotations

import re

HIDDEN = "[hidden]"
"""Replaces credentials."""

_HEADER = re.compile(r"""(\b(?:proxy-)?authorization\b['"]?\s*[:=,]\s*(?:b?['"])?)[^'"\r\n]+""", re.IGNORECASE)
_BEARER = re.compile(r"""(\bbearer\s+)[^\s'",;)\]}>]+""", re.IGNORECASE)


def escape(text: str) -> str:
    r"""Return a text in one line: line breaks as `\n`, and other characters that do not print as `\x1b` or `\u202e`.

    These would forge a line, control a terminal, or change the direction of the text that follows.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def hide_credentials(text: str) -> str:
    """Return a text without the values of authorization headers and bearer tokens."""
    return _BEARER.sub(rf"\1{HIDDEN}", _HEADER.sub(rf"\1{HIDDEN}", text))


def clean(text: str, limit: int) -> str:
    """Return a text as log records have it: at most `limit` characters, without credentials, and in one line."""
    omitted = len(text) - limit
    # Cut first: a text may have many megabytes.
    cleaned = escape(hide_credentials(text[:limit]))
    return cleaned if omitted <= 0 else f"{cleaned}… [{omitted:,} more characters]"


def clean_lines(text: str, limit: int, max_lines: int) -> list[str]:
    """Return the lines of a text, each as `clean` does; the middle is omitted where there are too many."""
    lines = text.split("\n")
    half = max_lines // 2
    if len(lines) > max_lines:
        lines = [*lines[:half], f"… [{len(lines) - 2 * half:,} more lines]", *lines[-half:]]
    return [clean(line, limit) for line in lines if line and not line.isspace()]
