"""The list of a source's images as an Arrow table: compact, and on disk where it is long.

A list of ten million Python strings takes more than a gigabyte; here the names are in record batches, which go to a
temporary file once they have `SPOOL_BYTES`, and are then mapped into memory as they are read.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

BATCH_ROWS = 65_536
"""Rows per record batch, and per step of the hash."""
SPOOL_BYTES = 64 << 20
"""Size of the batches in memory from which they are written to a temporary file."""


class TableWriter:
    """Collects record batches in memory, or in a temporary file when there are many."""

    def __init__(self, schema: pa.Schema) -> None:
        """Create an empty table."""
        self._schema = schema
        self._batches: list[pa.RecordBatch] = []
        self._bytes = 0
        self._path: Path | None = None
        self._file: pa.RecordBatchFileWriter | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch.

        Raises:
            OSError: the folder of temporary files is full; the message names it.
        """
        self._batches.append(batch)
        self._bytes += batch.nbytes
        if self._bytes > SPOOL_BYTES:
            self._spool()

    def finish(self) -> pa.Table:
        """Return the table; its file, if any, is deleted, and exists as long as the table does."""
        if self._file is None or self._path is None:
            return pa.Table.from_batches(self._batches, self._schema)
        self._spool()
        self._file.close()
        table = pa.ipc.open_file(pa.memory_map(str(self._path))).read_all()
        self.close()
        return table

    def close(self) -> None:
        """Delete the temporary file; mapped tables keep its content where the system allows it."""
        if self._path is not None:
            with suppress(OSError):  # Windows keeps a file that is mapped.
                self._path.unlink()

    def _spool(self) -> None:
        try:
            if self._file is None:
                with tempfile.NamedTemporaryFile(prefix="partedvae-", suffix=".arrow", delete=False) as file:
                    self._path = Path(file.name)
                self._file = pa.ipc.new_file(str(self._path), self._schema)
            for batch in self._batches:
                self._file.write_batch(batch)
        except OSError as error:
            self.close()
            raise OSError(
                error.errno,
                f"the list of images cannot be written: {error.strerror or error}; set TMPDIR to another folder",
                tempfile.gettempdir(),
            ) from error
        self._batches, self._bytes = [], 0


def table_of(rows: Iterable[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    """Return a table of rows, which are consumed a batch at a time."""
    writer = TableWriter(schema)
    try:
        for batch in _batched(rows):
            values = zip(*batch, strict=True)
            columns = [pa.array(column, type=field.type) for column, field in zip(values, schema, strict=True)]
            writer.write(pa.RecordBatch.from_arrays(columns, schema=schema))
        return writer.finish()
    except BaseException:
        writer.close()
        raise


def sorted_table(table: pa.Table, column: str) -> pa.Table:
    """Return a table in the order of a column."""
    order = pc.sort_indices(table, sort_keys=[(column, "ascending")]).to_numpy()
    batches = table.to_batches()
    ends = np.cumsum([len(batch) for batch in batches])
    writer = TableWriter(table.schema)
    for first in range(0, len(table), BATCH_ROWS):
        for batch in _taken(batches, ends, order[first : first + BATCH_ROWS].astype(np.int64)).to_batches():
            writer.write(batch)
    return writer.finish()


def _taken(batches: list[pa.RecordBatch], ends: NDArray[np.int64], rows: NDArray[np.int64]) -> pa.Table:
    """Return rows of a table, given its batches and the row after each; `Table.take` would copy all of them."""
    source = np.searchsorted(ends, rows, side="right")
    by_batch = np.argsort(source, kind="stable")
    numbers, firsts = np.unique(source[by_batch], return_index=True)
    pieces = [
        batches[number].take(pa.array(rows[part] - (ends[number] - len(batches[number]))))
        for number, part in zip(numbers, np.split(by_batch, firsts[1:]), strict=True)
    ]
    back = np.empty_like(by_batch)
    back[by_batch] = np.arange(len(rows))
    return pa.Table.from_batches(pieces).combine_chunks().take(pa.array(back))


def hash_of_table(table: pa.Table, facts: str = "") -> str:
    """Return the SHA-256 of the values of a table, which does not depend on how they are divided into batches.

    Args:
        table: the list of images.
        facts: what else identifies them.
    """
    digest = hashlib.sha256(json.dumps([facts, *table.column_names]).encode())
    for first in range(0, len(table), BATCH_ROWS):
        for column in table.slice(first, BATCH_ROWS).columns:
            values = column.combine_chunks()
            if pa.types.is_integer(values.type) and not values.null_count:
                digest.update(values.to_numpy(zero_copy_only=False).tobytes())
            elif pa.types.is_binary(values.type) and not values.null_count:
                digest.update(b"\0".join(values.to_pylist()))
            else:
                digest.update(json.dumps(values.to_pylist(), default=repr).encode())
            digest.update(b"\0")
    return digest.hexdigest()


def to_bytes(table: pa.Table) -> bytes:
    """Return the rows of a table, without those around a slice."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def from_bytes(content: bytes) -> pa.Table:
    """Return the table of `to_bytes`."""
    return pa.ipc.open_stream(content).read_all()


def _batched(rows: Iterable[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    batch: list[tuple[Any, ...]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch
