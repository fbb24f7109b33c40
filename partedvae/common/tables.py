"""Tables beside the images of a folder, as people and spreadsheets write them.

They are CSV in UTF-8, or UTF-16 with a byte order mark, separated by commas, semicolons or tabs, whichever separates
the column that the table must have. Excel's first line `sep=;`, blank rows, and blank columns at the end are skipped.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from partedvae.common.data_error import DataError
from partedvae.common.regular_files import read_file
from partedvae.common.text_files import TextError, decode_text

SEPARATORS = (",", ";", "\t")
_EXCEL_SEPARATOR = re.compile(r'"?sep=.{0,1}"?')


@dataclass(frozen=True, kw_only=True)
class Table:
    """The contents of a table."""

    header: Sequence[str]
    """Names of the columns, normalised; empty for an empty file."""
    header_line: int
    """Its line in the file."""
    rows: Sequence[tuple[int, Sequence[str]]]
    """The rows that are not blank, each with its line in the file, or its last line. Values are as they are written."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """Consecutive lines of a file that are one row of its table, or none."""

    text: str
    """The lines as they are in the file, with the line break."""
    line: int
    """Number of the last one, from 1."""
    values: Sequence[str]
    """Values as they are written; none for a blank row, and for the line `sep=;`."""


@dataclass(frozen=True, kw_only=True)
class Records:
    """All of a file, so that it can be written again with changes."""

    separator: str
    """One of `SEPARATORS`."""
    records: Sequence[Record]
    """All lines, in order; the first one with values is the header."""


def normalised(value: str) -> str:
    """Return a value in the composed form of Unicode, as macOS and other systems write the same letter differently."""
    return unicodedata.normalize("NFC", value.strip())


def read_csv(path: Path, column: str) -> Table:
    """Read a table.

    Args:
        path: the file.
        column: a column that it must have, by which the separator is found; the caller checks that it is there.

    Raises:
        DataError: the file is not a table in a supported encoding.
        FileNotFoundError: there is no such file.
    """
    return table_of(parse_csv(path, read_table_file(path), column))


def read_table_file(path: Path) -> bytes:
    """Return the content of the file of a table.

    Raises:
        DataError: it cannot be read.
        FileNotFoundError: there is no such file.
    """
    try:
        return read_file(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def parse_csv(path: Path, content: bytes, column: str) -> Records:
    """Divide the content of a file into records.

    Args:
        path: the file, for errors.
        content: its content.
        column: a column that the table must have, by which the separator is found.

    Raises:
        DataError: it is not a table in a supported encoding.
    """
    try:
        text = decode_text(content)
    except TextError as error:
        raise DataError(f"{path} cannot be read as CSV in UTF-8: {error}") from error
    lines = list(io.StringIO(text, newline=""))  # As the csv module asks for: line breaks are those of the file.
    first = next((number for number, line in enumerate(lines) if line.strip() and not _is_separator(line)), 0)
    separator = _separator(lines[first : first + 1], column)
    before = [Record(text=line, line=number, values=()) for number, line in enumerate(lines[:first], start=1)]
    return Records(separator=separator, records=[*before, *_records(path, lines, first, separator)])


def _records(path: Path, lines: Sequence[str], first: int, separator: str) -> Iterator[Record]:
    reader = csv.reader(lines[first:], delimiter=separator, strict=True)
    start = first
    try:
        for row in reader:
            end = first + reader.line_num
            values = row if any(value.strip() for value in row) else ()
            yield Record(text="".join(lines[start:end]), line=end, values=values)
            start = end
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            error = csv.Error("a quotation mark is not closed before the end of the file; close it, or remove it")
        raise DataError(f"{path} cannot be read as CSV: line {first + reader.line_num}: {error}") from error


def table_of(records: Records) -> Table:
    """Return the table of a file."""
    filled = [(record.line, record.values) for record in records.records if record.values]
    if not filled:
        return Table(header=[], header_line=1, rows=[])
    (line, header), *rows = filled
    names = [normalised(name) for name in header]
    while names and not names[-1] and not any(value.strip() for _, row in rows for value in row[len(names) - 1 :]):
        names.pop()
    return Table(header=names, header_line=line, rows=[(number, _cut(row, len(names))) for number, row in rows])


def _is_separator(line: str) -> bool:
    return _EXCEL_SEPARATOR.fullmatch(line.rstrip("\r\n")) is not None


def _separator(header: Sequence[str], column: str) -> str:
    """Return what separates the column from others in the first line, a comma where nothing does."""
    for separator in SEPARATORS:
        if any(column in map(normalised, row) for row in csv.reader(header, delimiter=separator)):
            return separator
    return SEPARATORS[0]


def _cut(row: Sequence[str], columns: int) -> Sequence[str]:
    """Return a row without blank values after the last column."""
    rest = row[columns:]
    return row if any(value.strip() for value in rest) else row[:columns]
