"""Files of features, written table by table: Parquet, Arrow IPC, CSV and NumPy's .npz.

Parquet and Arrow files are complete only with a footer, which is written last, and which holds texts besides: what made
the file (`partedvae.serving.extract.output.identity`), known before, and what was counted in it, known afterwards.

The .npz has the same data as arrays: `path` or `index`, `<factor>`, `<factor>_prob`, `<factor>_u` [images, u_dim],
`<factor>_p` [images, classes] with `<factor>_class_names`, `z` [images, z_dim], `unfamiliar`, `error`, and `metadata`
with those texts as JSON. Null values are NaN or "". The CSV has the columns of the table, and vectors as one column per
number.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from partedvae.serving.extract.layout import Layout

ROW_GROUP = 65_536
"""Rows per Parquet row group: large enough for fast reading, small enough to buffer in memory."""
RECORD_BATCH = 8_192
"""Rows per record batch of an Arrow file, at least, but the last."""
COUNTS = "partedvae.counts"
"""Key of what was counted, in the footer."""
METADATA = "metadata"
"""Name of the texts among the arrays of a .npz file."""


class FeatureWriter(Protocol):
    """Writes tables into a file."""

    def write(self, table: pa.Table) -> None:
        """Append rows."""

    def finish(self, metadata: Mapping[str, str]) -> None:
        """Write what is buffered and the footer, with further texts, and close the file."""

    def close(self) -> None:
        """Close the file, finished or not."""


@dataclass(frozen=True, kw_only=True)
class Footer:
    """What a file says of itself."""

    rows: int
    metadata: Mapping[str, str]


class _StreamWriter:
    """What the writers of formats that can be appended to have in common."""

    _writer: Any = None
    """The writer of pyarrow."""

    def __init__(self, path: Path) -> None:
        """Create the file: one of our own, since errors of pyarrow's have no number."""
        self._file: IO[bytes] = path.open("wb")

    def _end(self) -> None:
        """Write the footer and close the file."""
        if self._writer is not None:
            self._writer.close()
        self._file.close()

    def close(self) -> None:
        """Close the file, finished or not."""
        with suppress(Exception):  # Of a file that is not finished, and is deleted.
            if self._writer is not None:
                self._writer.close()
        self._file.close()


class ParquetWriter(_StreamWriter):
    """Writes row groups of `ROW_GROUP` rows, but the last, with zstd."""

    def __init__(self, path: Path, layout: Layout, metadata: Mapping[str, str]) -> None:
        """Create the file.

        Args:
            path: of the file.
            layout: its columns.
            metadata: texts for the footer.
        """
        super().__init__(path)
        self._writer = pq.ParquetWriter(
            self._file, layout.schema().with_metadata(dict(metadata)), compression="zstd", write_page_index=True
        )
        self._buffered: list[pa.Table] = []
        self._count = 0

    def write(self, table: pa.Table) -> None:
        """Append rows."""
        self._buffered.append(table)
        self._count += len(table)
        while self._count >= ROW_GROUP:
            joined = pa.concat_tables(self._buffered)
            self._writer.write_table(joined.slice(0, ROW_GROUP), row_group_size=ROW_GROUP)
            self._buffered = [joined.slice(ROW_GROUP)]
            self._count -= ROW_GROUP

    def finish(self, metadata: Mapping[str, str]) -> None:
        """Write the last row group and the footer."""
        if self._count:
            self._writer.write_table(pa.concat_tables(self._buffered), row_group_size=ROW_GROUP)
        self._writer.add_key_value_metadata(dict(metadata))
        self._end()


class ArrowWriter(_StreamWriter):
    """Writes record batches, not compressed, to be memory-mapped; the texts of `finish` come with an empty last one."""

    def __init__(self, path: Path, layout: Layout, metadata: Mapping[str, str]) -> None:
        """Create the file; the arguments are those of `ParquetWriter`."""
        self._schema = layout.schema().with_metadata(dict(metadata))
        super().__init__(path)
        self._writer = pa.ipc.new_file(self._file, self._schema)
        self._buffered: list[pa.Table] = []
        self._count = 0

    def write(self, table: pa.Table) -> None:
        """Append rows."""
        self._buffered.append(table)
        self._count += len(table)
        if self._count >= RECORD_BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._buffered:
            table = pa.concat_tables(self._buffered).combine_chunks().replace_schema_metadata(self._schema.metadata)
            self._writer.write_table(table)
        self._buffered, self._count = [], 0

    def finish(self, metadata: Mapping[str, str]) -> None:
        """Write the last rows and the footer."""
        self._flush()
        empty = pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in self._schema], schema=self._schema)
        self._writer.write_batch(empty, custom_metadata=dict(metadata))
        self._end()


class CsvWriter(_StreamWriter):
    """Writes CSV with a header, which has no place for other texts."""

    def __init__(self, path: Path, layout: Layout, metadata: Mapping[str, str]) -> None:
        """Create the file; the arguments are those of `ParquetWriter`."""
        super().__init__(path)

    def write(self, table: pa.Table) -> None:
        """Append rows."""
        flat = _without_lists(table)
        if self._writer is None:
            self._writer = pa.csv.CSVWriter(self._file, flat.schema)
        self._writer.write_table(flat)

    def finish(self, metadata: Mapping[str, str]) -> None:
        """Write what is buffered."""
        self._end()


class NpzWriter:
    """Holds all rows and writes them at the end, because the format does not support appending."""

    def __init__(self, path: Path, layout: Layout, metadata: Mapping[str, str]) -> None:
        """Store the arguments, which are those of `ParquetWriter`; the layout has vectors."""
        self._path = path
        self._layout = layout
        self._metadata = dict(metadata)
        self._tables: list[pa.Table] = []

    def write(self, table: pa.Table) -> None:
        """Append rows."""
        self._tables.append(table)

    def finish(self, metadata: Mapping[str, str]) -> None:
        """Write the file."""
        table = pa.concat_tables(self._tables)
        arrays: dict[str, Any] = dict(self._arrays(table))
        if "probs" in self._layout.include:
            arrays |= {f"{f.name}_class_names": np.array(f.class_names) for f in self._layout.factors}
        arrays[METADATA] = np.array(json.dumps(self._metadata | dict(metadata)))
        with self._path.open("wb") as file:  # NumPy would append .npz to a path without it.
            np.savez(file, **arrays)

    def _arrays(self, table: pa.Table) -> Iterator[tuple[str, NDArray[Any]]]:
        for name in table.column_names:
            values = _array(table[name])
            if _is_u(name, self._layout):
                first = 0
                for factor in self._layout.factors:
                    yield f"{factor.name}_u", values[:, first : first + factor.u_dim]
                    first += factor.u_dim
            else:
                yield name, values

    def close(self) -> None:
        """Do nothing: no file is open between writes."""


WRITERS: dict[str, Callable[[Path, Layout, Mapping[str, str]], FeatureWriter]] = {
    ".parquet": ParquetWriter,
    ".arrow": ArrowWriter,
    ".csv": CsvWriter,
    ".npz": NpzWriter,
}
"""By the suffix of the file."""


def names_in(suffix: str, layout: Layout) -> list[str]:
    """Return the names of the columns, or arrays, of a file; some may occur twice.

    Args:
        suffix: of its name.
        layout: its columns.

    Raises:
        InvalidInputError: two columns of the layout have the same name.
    """
    schema = layout.schema()
    if suffix == ".csv":
        return [name for column in schema for name in _flat_names(column)]
    if suffix != ".npz":
        return list(schema.names)
    names = [name for name in schema.names if not _is_u(name, layout)]
    if "u" in layout.include:
        names += [f"{factor.name}_u" for factor in layout.factors]
    if "probs" in layout.include:
        names += [f"{factor.name}_class_names" for factor in layout.factors]
    return [*names, METADATA]


def _is_u(name: str, layout: Layout) -> bool:
    """Return whether a column of a layout with vectors is the model's u, and not one of the input."""
    return name == "u" and "u" in layout.include


def _flat_names(column: pa.Field) -> list[str]:
    """Return the names of a column in CSV: one per number of a vector, `u0` … for `u`."""
    if pa.types.is_fixed_size_list(column.type):
        return [f"{column.name}{j}" for j in range(column.type.list_size)]
    return [column.name]


def read_footer(suffix: str, file: IO[bytes]) -> Footer | None:
    """Return what a file says of itself; None if it is damaged, unfinished, of another format, or says nothing.

    Args:
        suffix: of its name.
        file: its content, which can be read at any position.
    """
    try:
        if suffix == ".parquet":
            facts = pq.read_metadata(file)
            return Footer(rows=facts.num_rows, metadata=_texts(facts.metadata))
        if suffix == ".arrow":
            reader = pa.ipc.open_file(file)
            last = reader.get_batch_with_custom_metadata(reader.num_record_batches - 1)
            metadata = _texts(reader.schema.metadata) | _texts(last.custom_metadata)
            # Not those of its batches, of which all would be read.
            return Footer(rows=json.loads(metadata[COUNTS])["images"], metadata=metadata)
        if suffix == ".npz":
            with np.load(file) as arrays:
                metadata = json.loads(str(arrays[METADATA]))
            return Footer(rows=int(metadata.get("partedvae.rows", 0)), metadata=metadata)
    except (pa.ArrowException, ValueError, LookupError, EOFError):
        return None
    return None


def read_tables(suffix: str, file: IO[bytes]) -> Iterator[pa.Table]:
    """Yield the rows of a Parquet or Arrow file."""
    if suffix == ".parquet":
        for batch in pq.ParquetFile(file).iter_batches(ROW_GROUP):
            yield pa.Table.from_batches([batch])
    else:
        reader = pa.ipc.open_file(file)
        for k in range(reader.num_record_batches):
            yield pa.Table.from_batches([reader.get_batch(k)])


def _texts(metadata: Mapping[bytes, bytes] | None) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in (metadata or {}).items() if key.startswith(b"partedvae.")}


def _without_lists(table: pa.Table) -> pa.Table:
    """Return a table whose lists of a fixed size are one column per number."""
    columns: dict[str, Any] = {}
    for described, column in zip(table.schema, table.columns, strict=True):
        if pa.types.is_fixed_size_list(column.type):
            for j, name in enumerate(_flat_names(described)):
                columns[name] = pa.compute.list_element(column, j)
        else:
            columns[described.name] = column
    return pa.table(columns)


def _array(column: pa.ChunkedArray) -> NDArray[Any]:
    """Return a column as an array, with NaN or "" for null; a matrix for lists."""
    if pa.types.is_fixed_size_list(column.type):
        size = column.type.list_size
        # `flatten` leaves out the lists that are null, and `values` has them with any numbers.
        matrix = np.full((len(column), size), np.nan, dtype=np.float32)
        valid = column.is_valid().to_numpy()
        matrix[valid] = column.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, size)
        return matrix
    if pa.types.is_string(column.type):
        return np.array(column.fill_null("").to_pylist(), dtype=np.str_)
    return np.asarray(column.to_numpy())
