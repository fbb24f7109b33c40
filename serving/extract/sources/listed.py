"""Images with paths, one row per image: what files, URLs and archives have in common.

The list is a table with the column `name`, what else the reader needs, and the columns that are passed on. A reader
returns the content of the rows; here it is decoded.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np
import pyarrow as pa

from partedvae.common.image_folder import LeftOut
from partedvae.serving.errors import ImageError
from partedvae.serving.extract.memory import DECODING
from partedvae.serving.extract.sources.keys import PathKeys
from partedvae.serving.extract.sources.listing import from_bytes, hash_of_table, to_bytes
from partedvae.serving.extract.sources.source import Job, Key, Prepared
from partedvae.serving.images import decode_one, memory_limits
from partedvae.v1.manifest_pb2 import ImageSpec


@dataclass(frozen=True)
class ReadFailure:
    """Why an image cannot be read."""

    reason: str


class Reader(Protocol):
    """Reads images. Can be pickled, and used from several threads."""

    @property
    def needs(self) -> Sequence[str]:
        """Columns of the list that it reads, beside `name`."""

    def contents(self, rows: pa.Table) -> Iterator[bytes | ReadFailure]:
        """Yield the content of each row, or why there is none."""

    def part(self, rows: pa.Table) -> Reader:
        """Return a reader of these rows alone, which is pickled with them."""


@dataclass(kw_only=True, eq=False)
class ListedSource:
    """A list of images."""

    table: pa.Table
    """One row per image: `name` (binary), what the reader needs, and the columns to pass on."""
    reader: Reader
    keys: PathKeys
    columns: pa.Schema
    left_out: LeftOut = field(default_factory=LeftOut)
    facts: str = ""
    """What else identifies the images, such as the date of an archive."""
    key: Key = "path"

    @functools.cached_property
    def manifest_hash(self) -> str:
        """SHA-256 of the list, of the sizes and dates in it, and of what the keys depend on."""
        return hash_of_table(self.table, f"{self.facts}\n{self.keys.facts}")

    def __len__(self) -> int:
        return len(self.table)

    def part(self, first: int, last: int) -> ListedPart:
        """Return the rows from `first` to before `last`."""
        rows = self.table.slice(first, last - first).select(["name", *self.reader.needs, *self.columns.names])
        return ListedPart(rows, self.reader.part(rows), self.keys, self.columns)


class ListedPart:
    """Some rows of a list."""

    def __init__(self, rows: pa.Table, reader: Reader, keys: PathKeys, columns: pa.Schema) -> None:
        """Create a part; the arguments are those of `ListedSource`."""
        self._rows = rows
        self._reader = reader
        self._keys = keys
        self._columns = columns

    def __reduce__(self) -> tuple[object, ...]:
        return _unpickled, (to_bytes(self._rows), self._reader, self._keys, self._columns)

    def __len__(self) -> int:
        return len(self._rows)

    def jobs(self, batch_size: int) -> Iterator[Job]:
        """Yield jobs that read and decode."""
        for first in range(0, len(self), batch_size):
            yield partial(self._prepare, self._rows.slice(first, batch_size))

    def _prepare(self, rows: pa.Table, spec: ImageSpec) -> Prepared:
        images = np.empty((len(rows), spec.height, spec.width, spec.channels), dtype=np.uint8)
        errors: list[str | None] = []
        readable = 0
        limits = memory_limits()
        for content in self._reader.contents(rows):
            if isinstance(content, ReadFailure):
                errors.append(content.reason)
                continue
            try:
                images[readable] = decode_one(content, spec, limits, DECODING.reserve)
            except ImageError as error:
                errors.append(error.reason)
            else:
                errors.append(None)
                readable += 1
        return Prepared(
            keys=[self._keys.of(name) for name in names_of(rows)],
            errors=errors,
            images=images[:readable],
            columns=rows.select(self._columns.names) if self._columns.names else None,
        )


def names_of(rows: pa.Table) -> list[str]:
    """Return the names of rows; bytes that are not UTF-8 are surrogates."""
    return [os.fsdecode(name or b"") for name in rows["name"].to_pylist()]


def _unpickled(content: bytes, reader: Reader, keys: PathKeys, columns: pa.Schema) -> ListedPart:
    return ListedPart(from_bytes(content), reader, keys, columns)
