"""File names as text: names on Linux are bytes, and may not be UTF-8."""

from __future__ import annotations

import os


def printable(name: str) -> str:
    r"""Return a file name as text that every encoding of Unicode can write.

    Bytes that are not UTF-8, which Python's functions return as surrogates, are written `\xNN`: the name of an old
    archive in Latin-1, the bytes `caf\xe9.png`, is shown that way. Other names are unchanged.
    """
    return os.fsencode(name).decode("utf-8", "backslashreplace")
