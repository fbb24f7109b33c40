"""The rows of labels.csv: which values each image of the folder has. Says what is wrong with the table, by line."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from partedvae.common.data_error import DataError
from partedvae.common.faults import listed
from partedvae.common.folder_files import FolderFiles
from partedvae.common.missing_values import MARKERS
from partedvae.common.suggest import nearest
from partedvae.common.tables import Table, normalised

FILE_COLUMN = "file"
SPLIT_COLUMN = "split"
TABLE = "labels.csv"
SHOWN = 60
"""Characters of a value that an error shows."""
LONGEST = 200
"""Characters of the name of a factor or class."""


@dataclass(frozen=True, kw_only=True)
class Cells:
    """The rows of a table that are about images of the folder, by file, as it is called in the folder."""

    values: dict[str, dict[str, str]]
    """Normalised values by column; a split that is not known is blank."""
    lines: dict[str, int]
    """Lines in the file."""


def factors_of(header: Iterable[str]) -> tuple[str, ...]:
    """Return the columns of a header that are factors."""
    return tuple(name for name in header if name not in (FILE_COLUMN, SPLIT_COLUMN))


def in_order(classes: Iterable[str]) -> tuple[str, ...]:
    """Return classes sorted, as numbers if all of them are whole numbers without a sign."""
    names = set(classes)
    numbers = all(name.isdecimal() for name in names)
    return tuple(sorted(names, key=lambda name: (int(name) if numbers else 0, name)))


def check_header(path: Path, table: Table) -> None:
    """Check the names of the columns, of which there are some.

    Raises:
        DataError: one is missing, has no name or a wrong one, or there are two of a name.
    """
    header, where = table.header, f"{path}, line {table.header_line}"
    if FILE_COLUMN not in header:
        near = nearest(FILE_COLUMN, [name.lower() for name in header])
        meant = next((name for name in header if name.lower() == near), "")
        remedy = f"rename the column {meant!r}" if meant else "give that name to the column of the image files"
        raise DataError(f"{where}: no column is called 'file'; {remedy} (there are: {', '.join(map(repr, header))})")
    for number, name in enumerate(header, start=1):
        if not name:
            raise DataError(f"{where}: column {number} has no name; give it the name of a factor, or remove the column")
        check_text(name, where)
        if header.count(name) > 1:
            raise DataError(f"{where}: two columns are called {name!r}; rename or remove one of them")
        if name not in (FILE_COLUMN, SPLIT_COLUMN) and name.lower() in (FILE_COLUMN, SPLIT_COLUMN):
            raise DataError(f"{where}: unknown column {name!r}; did you mean {name.lower()!r}?")


def check_text(value: str, where: str) -> None:
    """Check that a name is in one line of bounded length, as all that shows it expects; a lost quote joins lines.

    Raises:
        DataError: it is not.
    """
    if any(unicodedata.category(character) == "Cc" for character in value):
        raise DataError(f"{where}: {value[:SHOWN]!r} has a line break or another control character; remove it")
    if len(value) > LONGEST:
        raise DataError(
            f"{where}: {value[:SHOWN]!r}… has {len(value):,} characters, more than the {LONGEST} of a name; shorten it"
        )


def read_cells(path: Path, table: Table, files: FolderFiles, *, others: bool = False) -> Cells:
    """Return the values of each row.

    Args:
        path: the file, for errors.
        table: its contents, with a checked header.
        files: the images of the folder.
        others: whether rows of files that are not in the folder are skipped, instead of being errors.

    Raises:
        DataError: rows are wrong, all of which are in the one error.
    """
    cells = Cells(values={}, lines={})
    faults = []
    for line, values in table.rows:
        where = f"{path}, line {line}"
        try:
            row = _checked_row(where, table.header, values)
            try:
                file = files.find(values[table.header.index(FILE_COLUMN)])
            except DataError as error:
                if others:
                    continue
                raise DataError(f"{where}: {error}") from error
            if file in cells.values:
                raise DataError(f"{where}: {file!r} is in line {cells.lines[file]} already; keep one of them")
        except DataError as error:
            faults.append(str(error))
        else:
            cells.values[file], cells.lines[file] = row, line
    if faults:
        raise DataError(listed(faults, f"rows of {path} cannot be used"))
    return cells


def _checked_row(where: str, header: Sequence[str], values: Sequence[str]) -> dict[str, str]:
    """Return the values of a row by column.

    Raises:
        DataError: the row is invalid.
    """
    if len(values) != len(header):
        raise DataError(
            f"{where}: {len(values)} values for {len(header)} columns; quote values that contain the separator, or add "
            "missing ones"
        )
    row = {name: normalised(value) for name, value in zip(header, values, strict=True)}
    if not row[FILE_COLUMN]:
        raise DataError(f"{where}: the file is blank")
    split = row.get(SPLIT_COLUMN, "")
    if split.lower() in MARKERS:
        row[SPLIT_COLUMN] = ""
    elif split not in ("", "train", "test"):
        raise DataError(f"{where}: split is {split!r}; it must be train, test or blank")
    for name in header:
        if name != FILE_COLUMN:
            check_text(row[name], where)
    return row
