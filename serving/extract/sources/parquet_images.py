"""Parquet files that contain images: a column of bytes, or of structures with the field `bytes`, as of Hugging Face."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from partedvae.common.image_folder import LeftOut
from partedvae.serving.errors import ImageError, InvalidInputError
from partedvae.serving.extract.memory import DECODING
from partedvae.serving.extract.sources.lists import open_parquet, passed_columns
from partedvae.serving.extract.sources.local_files import check_unchanged, facts_of
from partedvae.serving.extract.sources.options import InputOptions
from partedvae.serving.extract.sources.source import Job, Key, Prepared
from partedvae.serving.images import decode_one, memory_limits
from partedvae.v1.manifest_pb2 import ImageSpec

BATCH_BYTES = 8 << 20
"""Bytes of a batch of packed images; of large ones, a batch has fewer rows than the caller asks for."""


def has_images(kind: pa.DataType) -> bool:
    """Return whether the values of a column are images rather than paths."""
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


class ParquetImages:
    """The images of a column, one row per row of the file."""

    key: Key = "index"

    def __init__(self, given: str, column: str, options: InputOptions) -> None:
        """Open the file.

        Args:
            given: path or URL.
            column: the column of images.
            options: options of the input.

        Raises:
            InvalidInputError: a column to pass on does not exist, or the file has no rows.
        """
        self._facts = facts_of(given, options.read_timeout)
        file = open_parquet(given, options)
        self.left_out = LeftOut()
        passed = passed_columns(given, file.schema_arrow, column, options)
        self.columns = pa.schema([file.schema_arrow.field(name) for name in passed])
        self._count: int = file.metadata.num_rows
        self._given, self._column, self._options = given, column, options
        if not self._count:
            raise InvalidInputError(f"{given} contains no images")

    @functools.cached_property
    def manifest_hash(self) -> str:
        """SHA-256 of what the file is: its name and length, and the date or version of its content."""
        facts = f"{PurePosixPath(self._given).name} {self._facts} {self._column} {self.columns.names}"
        return hashlib.sha256(facts.encode("utf-8", "surrogateescape")).hexdigest()

    def __len__(self) -> int:
        return self._count

    def part(self, first: int, last: int) -> ParquetPart:
        """Return the rows from `first` to before `last`."""
        return ParquetPart(self._given, self._facts, self._column, self.columns.names, self._options, first, last)


class ParquetPart:
    """Some rows of a Parquet file. Pickled without them: the process that unpickles it opens the file."""

    def __init__(
        self, given: str, facts: str, column: str, passed: list[str], options: InputOptions, first: int, last: int
    ) -> None:
        """Create a part.

        Args:
            given: path or URL.
            facts: what `facts_of` returned when it was listed.
            column: the column of images.
            passed: columns to pass on.
            options: options of the input.
            first: first row.
            last: row after the last one.
        """
        self._given, self._facts = given, facts
        self._column, self._passed, self._options = column, passed, options
        self._first, self._last = first, last

    def __len__(self) -> int:
        return self._last - self._first

    def jobs(self, batch_size: int) -> Iterator[Job]:
        """Yield jobs that decode; the file is read here.

        Raises:
            InvalidInputError: the file is not the one that was listed.
        """
        check_unchanged(self._given, self._facts, self._options.read_timeout)
        file = open_parquet(self._given, self._options)
        groups, start = _groups(file, self._first, self._last)
        columns = [self._column, *self._passed]
        each = sum(file.metadata.row_group(group).total_byte_size for group in groups) // max(1, len(self))
        rows = max(1, min(batch_size, BATCH_BYTES // max(1, each)))
        for batch in file.iter_batches(batch_size=rows, row_groups=groups, columns=columns):
            first, last = max(self._first, start), min(self._last, start + len(batch))
            if first < last:
                yield partial(self._prepare, batch.slice(first - start, last - first), first)
            start += len(batch)

    def _prepare(self, batch: pa.RecordBatch, first: int, spec: ImageSpec) -> Prepared:
        images = np.empty((len(batch), spec.height, spec.width, spec.channels), dtype=np.uint8)
        errors: list[str | None] = []
        readable = 0
        limits = memory_limits()
        values = batch.column(self._column)
        for content in values.field("bytes") if pa.types.is_struct(values.type) else values:
            try:
                images[readable] = decode_one(content.as_py() or b"", spec, limits, DECODING.reserve)
            except ImageError as error:
                errors.append(error.reason)
            else:
                errors.append(None)
                readable += 1
        columns = pa.Table.from_batches([batch]).select(self._passed) if self._passed else None
        return Prepared(keys=range(first, first + len(batch)), errors=errors, images=images[:readable], columns=columns)


def _groups(file: pq.ParquetFile, first: int, last: int) -> tuple[list[int], int]:
    """Return the row groups with the rows from `first` to before `last`, and the first row of the first of them."""
    groups: list[int] = []
    start = begin = 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if start + rows > first and start < last:
            begin = begin if groups else start
            groups.append(group)
        start += rows
    return groups, begin
