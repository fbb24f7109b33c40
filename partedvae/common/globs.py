"""Patterns of file names: `*`, `?`, `[…]`, `**` for any number of folders, and the braces of shells.

`{a,b}` is either, and `{000..099}` a range of numbers as wide as they are written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_MAGIC = re.compile(r"[*?\[]")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
MAX_EXPANDED = 100_000
"""Names that braces may stand for."""


def is_pattern(text: str) -> bool:
    """Return whether a name is a pattern, with wildcards or braces."""
    return has_wildcards(text) or any(_alternatives(match[1]) for match in _BRACES.finditer(text))


def has_wildcards(text: str) -> bool:
    """Return whether a name has a wildcard."""
    return _MAGIC.search(text) is not None


def expand_braces(text: str) -> list[str]:
    """Return the names that a name with braces stands for, in the order of its braces; one without is returned itself.

    Raises:
        ValueError: there are more than `MAX_EXPANDED`.
    """
    names = []
    for name in _expanded(text):
        names.append(name)
        if len(names) > MAX_EXPANDED:
            raise ValueError(f"{text!r} stands for more than {MAX_EXPANDED:,} names; write them into a list")
    return names


def _expanded(text: str) -> Iterator[str]:
    for match in _BRACES.finditer(text):
        alternatives = _alternatives(match[1])
        if alternatives:
            for alternative in alternatives:
                yield from _expanded(text[: match.start()] + alternative + text[match.end() :])
            return
    yield text


def _alternatives(inside: str) -> list[str] | Iterator[str]:
    """Return what stands for a brace; nothing if it is one of a name."""
    if span := _RANGE.fullmatch(inside):
        numbers = range(int(span[1]), int(span[2]) + 1)
        return (f"{number:0{len(span[1])}}" for number in numbers) if numbers else []
    return inside.split(",") if "," in inside else []


def split_pattern(pattern: str) -> tuple[str, str]:
    """Return the folder of a pattern without wildcards (empty for the current one), and the rest of the pattern."""
    parts = pattern.split("/")
    first = next((index for index, part in enumerate(parts) if has_wildcards(part)), len(parts) - 1)
    folder = "/".join(parts[:first])
    return ("/" if pattern.startswith("/") and not folder else folder), "/".join(parts[first:])


def depth_of(pattern: str) -> int | None:
    """Return how many levels of folders a pattern enters; None if there is no limit."""
    return None if "**" in pattern else pattern.count("/")


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Return a regular expression that matches the whole names that a pattern without braces describes.

    Raises:
        ValueError: a class of characters in it is empty or runs backwards.
    """
    parts = pattern.split("/")
    text = ""
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "**":
            text += ".*" if last else "(?:.*/)?"
        else:
            text += _regex_of(part) + ("" if last else "/")
    try:
        return re.compile(text, re.DOTALL)
    except re.error as error:
        raise ValueError(f"the pattern {pattern!r} cannot be read: {error.msg}") from error


def _regex_of(part: str) -> str:
    text, position = "", 0
    while position < len(part):
        character = part[position]
        position += 1
        # A bracket directly after the first, or after its negation, belongs to the class.
        end = part.find("]", position + (2 if part[position : position + 1] in ("!", "^") else 1))
        if character == "*":
            text += "[^/]*"
        elif character == "?":
            text += "[^/]"
        elif character == "[" and end >= 0:
            negated = part[position] in "!^"
            inside = re.sub(r"([\\\[\]^&~|])", r"\\\1", part[position + negated : end])
            text += f"[{'^/' if negated else ''}{inside}]"
            position = end + 1
        else:
            text += re.escape(character)
    return text
