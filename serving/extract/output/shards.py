"""Divides the rows of an extraction into parts, which are written, resumed and retried one by one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from partedvae.serving.errors import InvalidInputError

MIN_ROWS_PER_PART, MAX_ROWS_PER_PART = 1_024, 65_536
"""Bounds of the default. A part is what an interruption loses, and a row group of the result."""
WANTED_PARTS = 16
"""Parts of an extraction by default, unless they would be larger or smaller than these bounds."""

PART_PREFIX = "part-"
"""Start of the names of parts."""
_NAME = re.compile(rf"{PART_PREFIX}(\d{{5,}})-of-(\d{{5,}})\.(\w+)")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Parts of an extraction: consecutive rows each, and all as long as the first but the last."""

    rows: int
    """Images of the source."""
    rows_per_part: int
    suffix: str
    """Ending of the parts' names, ".parquet"."""

    def __post_init__(self) -> None:
        if self.rows_per_part < 1:
            raise InvalidInputError(f"--rows-per-part is {self.rows_per_part}; it must be at least 1")

    def __len__(self) -> int:
        """Return the number of parts."""
        return -(-self.rows // self.rows_per_part)

    def range_of(self, number: int) -> tuple[int, int]:
        """Return the first row of a part, and the row after its last one."""
        first = number * self.rows_per_part
        return first, min(first + self.rows_per_part, self.rows)

    def rows_of(self, number: int) -> int:
        """Return the number of rows of a part."""
        first, last = self.range_of(number)
        return last - first

    def name(self, number: int) -> str:
        """Return the file name of a part: `part-00003-of-00016.parquet` for 3."""
        return f"{PART_PREFIX}{number:05}-of-{len(self):05}{self.suffix}"

    def names(self) -> Iterator[str]:
        """Yield the names of all parts, in the order of their rows."""
        return (self.name(number) for number in range(len(self)))


def default_rows_per_part(rows: int) -> int:
    """Return the largest power of two that makes at least `WANTED_PARTS` parts, within the bounds."""
    size = MAX_ROWS_PER_PART
    while size > MIN_ROWS_PER_PART and -(-rows // size) < WANTED_PARTS:
        size //= 2
    return size


@dataclass(frozen=True, kw_only=True)
class PartName:
    """What the file name of a part says."""

    number: int
    parts: int
    """Parts of the extraction."""


def parse_part(name: str) -> PartName:
    """Return what the file name of a part says.

    Raises:
        ValueError: it is not that of a part; see `is_part`.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is not the name of a part")
    return PartName(number=int(match[1]), parts=int(match[2]))


def is_part(name: str) -> bool:
    """Return whether a file name is that of a part, of any extraction."""
    return _NAME.fullmatch(name) is not None
