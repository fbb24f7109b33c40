"""Text files that other programs write: tables of spreadsheets and lists of names."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

UTF_8 = "utf-8"
_UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LINE_END = re.compile(r"\r\n|\n|\r")
_BYTES_LINE_END = re.compile(rb"\r\n|\n|\r")
CHUNK = 1 << 20
"""Bytes of a list that are read at a time."""


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


def encode_like(text: str, content: bytes) -> bytes:
    """Return a text in the encoding of a file that `decode_text` reads, with the byte order mark that it has.

    Args:
        text: the text, without a byte order mark.
        content: the content of the file; UTF-8 without a mark if it is empty.
    """
    for mark, encoding in (
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF8, UTF_8),
    ):
        if content.startswith(mark):
            return mark + text.encode(encoding)
    return text.encode(UTF_8)


def read_names(path: Path) -> list[tuple[int, str]]:
    """Return the lines of a list of file names that are not blank, each with its number.

    Lines may end as on Windows. Bytes that are not UTF-8 are surrogates, as in `os`; spaces are kept.

    Raises:
        TextError: the file is not text.
        OSError: it cannot be read.
    """
    text = decode_text(path.read_bytes(), errors="surrogateescape" if os.name == "posix" else "strict")
    return [(number, line) for number, line in enumerate(_LINE_END.split(text), start=1) if line.strip()]


def iterate_names(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of `read_names` without keeping the file in memory, in UTF-8 or in their own encoding.

    Args:
        file: an open file, at its start.

    Raises:
        TextError: the file is not text.
        OSError: it cannot be read.
    """
    rest, line_ends = b"", 0
    chunk = file.read(max(CHUNK, 4))  # more than a byte order mark
    if chunk.startswith(_UTF_16_MARKS):
        lines = _LINE_END.split(decode_text(chunk + file.read()))
        yield from (line.encode() for line in lines if line.strip())
        return
    chunk = chunk.removeprefix(codecs.BOM_UTF8)
    while chunk:
        if b"\0" in chunk:
            before = rest + chunk[: chunk.index(b"\0")]
            line = line_ends + len(_BYTES_LINE_END.findall(before)) + 1
            raise TextError(f"line {line} has a null character, as text in UTF-16 has; save it as UTF-8")
        data = rest + chunk
        # What follows the last end of a line belongs to the next chunk; so may a line feed after a carriage return.
        held = b"\r" if data.endswith(b"\r") else b""
        whole = _BYTES_LINE_END.split(data.removesuffix(b"\r") if held else data)
        rest = whole.pop() + held
        line_ends += len(whole)
        yield from (line for line in whole if line.strip())
        chunk = file.read(CHUNK)
    yield from (line for line in _BYTES_LINE_END.split(rest) if line.strip())
