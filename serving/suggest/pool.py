"""What is known of the images of a source: their names in lists, which have a label, and which are for testing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from partedvae.common.data_error import DataError
from partedvae.common.file_names import in_one_line
from partedvae.common.labels_file import LabelsFile
from partedvae.common.listed_names import read_listed
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.extract.sources.listed import ListedSource, names_of
from partedvae.serving.extract.sources.source import Source

LIST = ".txt"
"""Ending of a list of names; other files are tables."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of images, by their name."""

    labelled: frozenset[str] = frozenset()
    """Images with a label."""
    tests: frozenset[str] = frozenset()
    """Images for testing, whose labels training does not use."""
    factors: tuple[str, ...] = ()
    """Factors of the table."""
    origin: str = ""
    """Where that is from; empty for nowhere."""


def image_names(source: Source, keys: Sequence[str]) -> Sequence[str]:
    """Return what tables and lists call the images.

    Args:
        source: the images.
        keys: what the features call them, in the order of the source.

    Raises:
        InvalidInputError: the features are of other images.
    """
    if len(keys) != len(source):
        raise InvalidInputError(
            f"the features are of {len(keys):,} images, and the input has {len(source):,}; extract them again"
        )
    names: Sequence[str]
    expected: Sequence[str]
    if isinstance(source, ListedSource):
        names = names_of(source.table)
        expected = [source.keys.of(name) for name in names]
    else:
        names = expected = keys if source.key == "path" else [str(index) for index in range(len(source))]
    for key, name in zip(keys, expected, strict=True):
        if key != name:
            raise InvalidInputError(
                f"the features have {in_one_line(key)!r} where the input has {in_one_line(name)!r}; extract them again"
            )
    return names


def read_known(names: Sequence[str], folder: Path | None, given: Path | None, factor: str | None = None) -> Known:
    """Read which images have a label.

    Args:
        names: of the images.
        folder: their folder, whose labels.csv is read where `given` is None; None where they have none.
        given: a table like labels.csv, or a text file of names.
        factor: the factor that matters; None for any.

    Raises:
        DataError: the file is missing or invalid.
    """
    if given is None and folder is None:
        return Known()
    if given is not None and not given.is_file():
        raise DataError(f"{given} does not exist; pass a table like labels.csv, or a text file of names")
    if given is not None and given.suffix.lower() == LIST:
        return Known(labelled=frozenset(read_listed(given, names, "input")), origin=str(given))
    table = LabelsFile(folder or Path(given or "").parent, names, given)
    labels = table.read()
    origin = str(table.path) if table.path.exists() else ""
    return Known(labelled=labels.labelled(factor), tests=labels.tests, factors=labels.factors, origin=origin)


def as_line(name: str) -> str:
    """Return the name of a file as a line of a list, where digits alone would be an index."""
    return f"./{name}" if name.strip().isdecimal() else name
