"""Values of a label that mean "not known", as tables exported by other programs write them, and classes of these names.

A value is missing if it is blank or one of `MARKERS`, in upper or lower case. Where such a word is a class, such as
"none" of the factor "glasses", `classes.csv` beside labels.csv names it:

    factor,class
    glasses,none
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

from partedvae.common.data_error import DataError
from partedvae.common.suggest import did_you_mean
from partedvae.common.tables import normalised, read_csv

CLASSES = "classes.csv"
HEADER = ["factor", "class"]
MARKERS = frozenset(
    {
        *("nan", "-nan", "none", "na", "n/a", "n.a.", "<na>", "nat", "null", "nil", "-1", "-1.0", "?", "-", "--"),
        *("#n/a", "#na", "#n/a n/a", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan", r"\n", "undefined"),
    }
)
"""Markers of missing values, in lower case: those of pandas, R, SQL, JSON, spreadsheets, and the label -1."""


def read_named_classes(folder: Path, factors: Collection[str] | None = None) -> frozenset[tuple[str, str]]:
    """Read `<folder>/classes.csv`: factor and class, in lower case, of the markers that are classes.

    Without the file there are none.

    Args:
        folder: the folder of labels.csv.
        factors: names of the factors, to check the file; None does not check them.

    Raises:
        DataError: the file is invalid; the message has the line.
    """
    path = folder / CLASSES
    try:
        table = read_csv(path, HEADER[0])
    except FileNotFoundError:
        return frozenset()
    if table.header != HEADER:
        raise DataError(f"{path}, line {table.header_line}: it must be {','.join(HEADER)}")
    named = set()
    for line, values in table.rows:
        row = [normalised(value) for value in values]
        if len(row) != len(HEADER) or not row[1]:
            raise DataError(f"{path}, line {line}: expected a factor and a class, not {','.join(row)!r}")
        if factors is not None and row[0] not in factors:
            raise DataError(f"{path}, line {line}: labels.csv has no factor {row[0]!r}{did_you_mean(row[0], factors)}")
        named.add((row[0], row[1].lower()))
    return frozenset(named)


def clear_missing(
    cells: Mapping[str, dict[str, str]], factors: Collection[str], named: frozenset[tuple[str, str]]
) -> dict[str, Counter[str]]:
    """Make missing values blank, and return how often each marker was found, by factor.

    Args:
        cells: values by file and column, changed in place.
        factors: columns that are factors.
        named: from `read_named_classes`.
    """
    found: dict[str, Counter[str]] = {name: Counter() for name in factors}
    for row in cells.values():
        for name in factors:
            value = row[name]
            if value.lower() in MARKERS and (name, value.lower()) not in named:
                found[name][value] += 1
                row[name] = ""
    return found


def unused_classes(cells: Mapping[str, Mapping[str, str]], named: frozenset[tuple[str, str]]) -> list[str]:
    """Return a sentence for each class of `read_named_classes` that no row of labels.csv has."""
    sentences = []
    for factor, name in sorted(named):
        values = {row[factor].lower() for row in cells.values()}
        if name not in values:
            sentences.append(f"{CLASSES}: no value of {factor!r} is {name!r}{did_you_mean(name, values - {''})}")
    return sentences


def describe_missing(factor: str, markers: Counter[str]) -> str:
    """Return which values of a factor count as not known, and how to make one of them a class."""
    values = ", ".join(f"{value!r} {count:,}" for value, count in markers.most_common())
    first = markers.most_common(1)[0][0]
    return (
        f"labels.csv: values of {factor!r} that count as not known: {values}; where one is a class, name it in "
        f"{CLASSES} (first line '{','.join(HEADER)}', then '{factor},{first}')"
    )
