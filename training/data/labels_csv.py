"""labels.csv of a folder of images: the classes of each file, and its split.

    file,animal,colour,split
    photos/1.png,cat,black,train
    photos/2.png,dog,,test
    photos/3.png,,white,

The column `file` has paths relative to the folder. `split` is optional; blank means train. Every other column is a
factor, whose classes are its values; blank and the markers of missing_values.py, such as NaN, mean unknown. Factor
names that would give feature files two columns of the same name are errors.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from partedvae.common.file_names import in_one_line
from partedvae.common.suggest import nearest
from partedvae.training.data.column_names import check_column_names
from partedvae.training.data.dataset import UNLABELLED, DataError, FactorInfo
from partedvae.training.data.faults import listed
from partedvae.training.data.folder_files import FolderFiles
from partedvae.training.data.missing_values import (
    MARKERS,
    clear_missing,
    describe_missing,
    read_named_classes,
    unused_classes,
)
from partedvae.training.data.tables import Table, normalised, read_csv

FILE_COLUMN = "file"
SPLIT_COLUMN = "split"
TABLE = "labels.csv"
SHOWN = 60
"""Characters of a value that an error shows."""
LONGEST = 200
"""Characters of the name of a factor or class."""
INVISIBLE = frozenset({"Zs", "Cf"})
"""Categories of characters that are hardly seen: spaces, and those that join letters or change their direction."""


@dataclass(frozen=True, kw_only=True)
class LabelTable:
    """The contents of labels.csv."""

    factors: tuple[FactorInfo, ...]
    """The factors; classes are sorted, as numbers if all of them are numbers."""
    labels: Mapping[str, tuple[int, ...]]
    """Labels by file, one per factor; -1 where the value is blank."""
    tests: frozenset[str] | None
    """Files for testing; None without a column `split`."""
    notes: tuple[str, ...]
    """Values that are read in a way that may surprise, one sentence per factor."""


def read_table(folder: Path, names: Sequence[str]) -> LabelTable:
    """Read `<folder>/labels.csv`.

    Args:
        folder: the folder.
        names: its image files, from `partedvae.common.image_folder.find_images`.

    Raises:
        DataError: the file is missing or invalid; the message has the line.
    """
    path = folder / TABLE
    try:
        table = read_csv(path, FILE_COLUMN)
    except FileNotFoundError:
        raise DataError(
            f"{path} is missing; create it with the first line 'file,FACTOR' and a line 'IMAGE,CLASS' for each "
            f"labelled image{_example(names)}"
        ) from None
    header, rows = table.header, table.rows
    _check_header(path, table)
    if not rows:
        raise DataError(f"{path} has no rows; add a line 'IMAGE,CLASS' for every labelled image")
    cells = _cells(path, table, FolderFiles(folder, names))
    factor_names = [name for name in header if name not in (FILE_COLUMN, SPLIT_COLUMN)]
    named = read_named_classes(folder, factor_names)
    missing = clear_missing(cells, factor_names, named)
    alone = len(factor_names) == 1
    factors = tuple(
        _factor(path, name, [row[name] for row in cells.values()], alone, missing[name]) for name in factor_names
    )
    check_column_names(path, factors)
    labels = {
        file: tuple(f.classes.index(row[f.name]) if row[f.name] else UNLABELLED for f in factors)
        for file, row in cells.items()
    }
    tests = None
    if SPLIT_COLUMN in header:
        tests = frozenset(file for file, row in cells.items() if row[SPLIT_COLUMN] == "test")
        if not tests:
            raise DataError(f"{path} has a column 'split' but no row with 'test'; mark some, or remove the column")
        _check_training(path, factors, labels, tests)
    notes = [describe_missing(name, markers) for name, markers in missing.items() if markers]
    notes += [note for factor in factors for note in _similar_classes(factor)]
    notes += unused_classes(cells, named)
    return LabelTable(factors=factors, labels=labels, tests=tests, notes=tuple(notes))


def _example(names: Sequence[str]) -> str:
    """Return the line of an image in a subfolder, which often has the name of its class."""
    name = next((name for name in names if "/" in name), None)
    return f", such as '{in_one_line(name)},{in_one_line(PurePosixPath(name).parent.name)}'" if name else ""


def _check_header(path: Path, table: Table) -> None:
    header, where = table.header, f"{path}, line {table.header_line}"
    if not header:
        raise DataError(f"{path} is empty; write 'file,FACTOR' into its first line")
    if FILE_COLUMN not in header:
        near = nearest(FILE_COLUMN, [name.lower() for name in header])
        meant = next((name for name in header if name.lower() == near), "")
        remedy = f"rename the column {meant!r}" if meant else "give that name to the column of the image files"
        raise DataError(f"{where}: no column is called 'file'; {remedy} (there are: {', '.join(map(repr, header))})")
    for number, name in enumerate(header, start=1):
        if not name:
            raise DataError(f"{where}: column {number} has no name; give it the name of a factor, or remove the column")
        _check_text(name, where)
        if header.count(name) > 1:
            raise DataError(f"{where}: two columns are called {name!r}")
        if name not in (FILE_COLUMN, SPLIT_COLUMN) and name.lower() in (FILE_COLUMN, SPLIT_COLUMN):
            raise DataError(f"{where}: unknown column {name!r}; did you mean {name.lower()!r}?")
    if not set(header) - {FILE_COLUMN, SPLIT_COLUMN}:
        raise DataError(f"{where}: no factor; add a column with its name and classes")


def _check_text(value: str, where: str) -> None:
    """Check that a name is in one line of bounded length, as all that shows it expects; a lost quote joins lines."""
    if any(unicodedata.category(character) == "Cc" for character in value):
        raise DataError(f"{where}: {value[:SHOWN]!r} has a line break or another control character; remove it")
    if len(value) > LONGEST:
        raise DataError(
            f"{where}: {value[:SHOWN]!r}… has {len(value):,} characters, more than the {LONGEST} of a name; shorten it"
        )


def _cells(path: Path, table: Table, files: FolderFiles) -> dict[str, dict[str, str]]:
    """Return the values of each row by column, by file; all rows that are wrong are in one error."""
    cells: dict[str, dict[str, str]] = {}
    lines: dict[str, int] = {}
    faults = []
    for line, values in table.rows:
        where = f"{path}, line {line}"
        try:
            file, row = _checked_row(where, table.header, values, files)
            if file in cells:
                raise DataError(f"{where}: {file!r} is in line {lines[file]} already; keep one of them")
        except DataError as error:
            faults.append(str(error))
        else:
            cells[file], lines[file] = row, line
    if faults:
        raise DataError(listed(faults, f"rows of {path} cannot be used"))
    return cells


def _checked_row(
    where: str, header: Sequence[str], values: Sequence[str], files: FolderFiles
) -> tuple[str, dict[str, str]]:
    """Return the file of a row, as it is called in the folder, and the row's values by column.

    Raises:
        DataError: the row is invalid.
    """
    if len(values) != len(header):
        raise DataError(f"{where}: {len(values)} values for {len(header)} columns")
    row = {name: normalised(value) for name, value in zip(header, values, strict=True)}
    if not row[FILE_COLUMN]:
        raise DataError(f"{where}: the file is blank")
    try:
        file = files.find(values[header.index(FILE_COLUMN)])
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    split = row.get(SPLIT_COLUMN, "")
    if split.lower() in MARKERS:
        row[SPLIT_COLUMN] = ""
    elif split not in ("", "train", "test"):
        raise DataError(f"{where}: split is {split!r}; it must be train, test or blank")
    for name in header:
        if name != FILE_COLUMN:
            _check_text(row[name], where)
    return file, row


def _factor(path: Path, name: str, values: Sequence[str], alone: bool, missing: Counter[str]) -> FactorInfo:
    classes = {value for value in values if value}
    if len(classes) < 2:
        found = f"only the class {next(iter(classes))!r}" if classes else "no class"
        more = "label images of another class too" if classes else "write the classes of some images into it"
        remedy = more if alone else f"{more}, or remove its column"
        marked = f"; {describe_missing(name, missing)}" if missing else ""
        raise DataError(f"{path}: factor {name!r} has {found}, but at least two are needed; {remedy}{marked}")
    numbers = all(value.isdecimal() for value in classes)
    ordered = sorted(classes, key=lambda value: (int(value) if numbers else 0, value))
    return FactorInfo(name=name, classes=tuple(ordered))


def _similar_classes(factor: FactorInfo) -> Iterator[str]:
    """Yield a note for each class that differs from another only in what is hardly seen, or as a number."""
    first: dict[str, str] = {}
    for name in factor.classes:
        other = first.setdefault(_key(name), name)
        if other != name:
            yield f"labels.csv: {other!r} and {name!r} of {factor.name!r} are two classes; correct one if not"


def _key(name: str) -> str:
    """Return what similar classes have in common: "Cat" and "cat ", "1", "01" and "1.0"."""
    seen = [c for c in unicodedata.normalize("NFKC", name).casefold() if unicodedata.category(c) not in INVISIBLE]
    try:
        return str(float("".join(seen)))
    except ValueError:
        return "".join(seen)


def _check_training(
    path: Path, factors: Sequence[FactorInfo], labels: Mapping[str, tuple[int, ...]], tests: frozenset[str]
) -> None:
    """Check that every class has a labelled training image, as a class without one cannot be learned."""
    training = [row for file, row in labels.items() if file not in tests]
    if not any(label != UNLABELLED for row in training for label in row):
        raise DataError(
            f"{path}: every row with a class has 'test' in the column 'split', so that no label is left for training; "
            "write 'train' into some rows of each class"
        )
    for column, factor in enumerate(factors):
        trained = {row[column] for row in training}
        for label, name in enumerate(factor.classes):
            if label not in trained:
                raise DataError(
                    f"{path}: every row with {name!r} in the column {factor.name!r} has 'test' in the column 'split'; "
                    "write 'train' into at least one of them"
                )
