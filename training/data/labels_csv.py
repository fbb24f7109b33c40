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

from partedvae.common.column_names import check_column_names
from partedvae.common.data_error import DataError
from partedvae.common.file_names import in_one_line
from partedvae.common.folder_files import FolderFiles
from partedvae.common.label_table import (
    FILE_COLUMN,
    SPLIT_COLUMN,
    TABLE,
    check_header,
    factors_of,
    in_order,
    read_cells,
)
from partedvae.common.missing_values import (
    clear_missing,
    describe_missing,
    read_named_classes,
    unused_classes,
)
from partedvae.common.tables import read_csv
from partedvae.training.data.dataset import UNLABELLED, FactorInfo

INVISIBLE = frozenset({"Zs", "Cf"})
"""Categories of characters that are hardly seen: spaces, and those that join letters or change their direction."""


class TooFewLabelsError(DataError):
    """There are not enough labels yet: no table, or a factor without two classes."""


@dataclass(frozen=True, kw_only=True)
class LabelTable:
    """The contents of labels.csv."""

    factors: tuple[FactorInfo, ...]
    """The factors; classes are sorted, as numbers if all of them are whole numbers without a sign."""
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
        TooFewLabelsError: the file is missing, or a factor has less than two classes.
        DataError: the file is invalid; the message has the line.
    """
    path = folder / TABLE
    try:
        table = read_csv(path, FILE_COLUMN)
    except FileNotFoundError:
        raise TooFewLabelsError(
            f"{path} is missing; create it with the first line 'file,FACTOR' and a line 'IMAGE,CLASS' for each "
            f"labelled image{_example(names)}"
        ) from None
    header, rows = table.header, table.rows
    if not header:
        raise TooFewLabelsError(f"{path} is empty; write 'file,FACTOR' into its first line")
    check_header(path, table)
    if not factors_of(header):
        raise TooFewLabelsError(f"{path}, line {table.header_line}: no factor; add a column with its name and classes")
    if not rows:
        raise TooFewLabelsError(f"{path} has no rows; add a line 'IMAGE,CLASS' for every labelled image")
    cells = read_cells(path, table, FolderFiles(folder, names)).values
    factor_names = factors_of(header)
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


def _factor(path: Path, name: str, values: Sequence[str], alone: bool, missing: Counter[str]) -> FactorInfo:
    classes = {value for value in values if value}
    if len(classes) < 2:
        found = f"only the class {next(iter(classes))!r}" if classes else "no class"
        more = "label images of another class too" if classes else "write the classes of some images into it"
        remedy = more if alone else f"{more}, or remove its column"
        marked = f"; {describe_missing(name, missing)}" if missing else ""
        raise TooFewLabelsError(f"{path}: factor {name!r} has {found}, but at least two are needed; {remedy}{marked}")
    return FactorInfo(name=name, classes=in_order(classes))


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
