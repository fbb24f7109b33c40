"""Text files that other programs write: tables of spreadsheets and lists of names."""

from __future__ import annotations

import codecs
import os
import re
from pathlib import Path

UTF_8 = "utf-8"
_UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LINE_END = re.compile(r"\r\n|\n|\r")


class TextError(ValueError):
    """A file that is not text in a supported encoding; the message has the reason and the remedy, without the path."""


def decode_text(content: bytes, *, errors: str = "strict") -> str:
    """Return the text of a file in UTF-8, or in UTF-16 with a byte order mark, as Excel and PowerShell write.

    Args:
        content: the bytes of the file.
        errors: what to do with bytes that are not UTF-8, as in `bytes.decode`.

    Raises:
        TextError: it has another encoding.
    """
    try:
        if content.startswith(_UTF_16_MARKS):
            text = content.decode("utf-16")
        else:
            text = content.removeprefix(codecs.BOM_UTF8).decode(UTF_8, errors)
    except UnicodeDecodeError as error:
        if error.encoding.startswith("utf-16"):
            raise TextError(f"it is not UTF-16, as its first bytes say: {error.reason}; save it as UTF-8") from error
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        raise TextError(f"line {line} has the byte {byte:#04x}, which is not UTF-8; save it as UTF-8") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise TextError(f"line {line} has a null character, as text in UTF-16 has; save it as UTF-8")
    return text


def read_names(path: Path) -> list[tuple[int, str]]:
    """Return the lines of a list of file names that are not blank, each with its number.

    Lines may end as on Windows. Bytes that are not UTF-8 are surrogates, as in `os`; spaces are kept.

    Raises:
        TextError: the file is not text.
        OSError: it cannot be read.
    """
    text = decode_text(path.read_bytes(), errors="surrogateescape" if os.name == "posix" else "strict")
    return [(number, line) for number, line in enumerate(_LINE_END.split(text), start=1) if line.strip()]
