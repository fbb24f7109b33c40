"""File names as text: names on Linux are bytes, and may not be UTF-8; other systems write the same name otherwise."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import PurePosixPath


def printable(name: str) -> str:
    r"""Return a file name as text that every encoding of Unicode can write.

    Bytes that are not UTF-8, which Python's functions return as surrogates, are written `\xNN`: the name of an old
    archive in Latin-1, the bytes `caf\xe9.png`, is shown that way. Other names are unchanged.
    """
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def in_one_line(name: str) -> str:
    r"""Return a file name as `printable` does, for messages: control characters, such as line breaks, as `\n`.

    A terminal would obey them, and a name with a line break would look like two.
    """
    return "".join(repr(c)[1:-1] if _controls(c) else c for c in printable(name))


def spellings(name: str) -> Iterator[str]:
    """Yield the names that a file may have which a table or a list calls `name`, the most likely first.

    Spaces around it may not belong to it, the same letter has several forms in Unicode, and Windows separates folders
    by backslashes. All are without `./` and doubled slashes.
    """
    seen = set()
    for text in (name, name.strip()):
        for slashed in (text, text.replace("\\", "/")):
            for form in (slashed, unicodedata.normalize("NFC", slashed), unicodedata.normalize("NFD", slashed)):
                path = PurePosixPath(form).as_posix()
                if path not in seen:
                    seen.add(path)
                    yield path


def _controls(character: str) -> bool:
    """Return whether a character controls a terminal or the direction of text instead of being shown."""
    return (
        unicodedata.category(character) == "Cc" or character in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    )
