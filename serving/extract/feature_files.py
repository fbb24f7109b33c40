"""Writes feature files: Parquet, in row groups, or NumPy's .npz. Their columns are those of `layout`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from partedvae.common.atomic_write import atomic_write
from partedvae.familiarity import FAMILIAR
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.extract.layout import Layout, Rows, columns_of, matrices_of, schema_of

ROW_GROUP = 65_536
"""Rows per Parquet row group: large enough for fast reading, small enough to buffer in memory."""
SUFFIXES = (".parquet", ".npz")


class FeatureFile(Protocol):
    """A file that rows are appended to."""

    def write(self, rows: Rows) -> None:
        """Append rows."""

    def finish(self) -> None:
        """Write buffered rows."""

    def close(self) -> None:
        """Close the file, finished or not."""


def check_suffix(path: Path) -> None:
    """Check the suffix of an output, before any work.

    Raises:
        InvalidInputError: it is not one of `SUFFIXES`.
    """
    if path.suffix not in SUFFIXES:
        raise InvalidInputError(f"the output {str(path)!r} must end in {' or '.join(SUFFIXES)}")


@contextmanager
def create(path: Path, layout: Layout) -> Iterator[FeatureFile]:
    """Open a feature file for writing. It appears at `path` only if the block succeeds."""
    check_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        file: FeatureFile = (ParquetFile if path.suffix == ".parquet" else NpzFile)(temporary, layout)
        try:
            yield file
            file.finish()
        finally:
            file.close()


class ParquetFile:
    """Writes Parquet row groups when they are full."""

    def __init__(self, path: Path, layout: Layout) -> None:
        """Create the file."""
        self._layout = layout
        self._schema = schema_of(layout)
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._buffered: list[pa.Table] = []

    def write(self, rows: Rows) -> None:
        """Append rows."""
        columns = columns_of(rows, self._layout)
        missing = np.array([error is not None for error in rows.errors])
        arrays = []
        for field in self._schema:
            values = columns[field.name]
            if isinstance(values, pa.ChunkedArray):
                arrays.append(values.combine_chunks())
                continue
            mask = None if field.name in (self._layout.key, "error") else missing
            if field.name == "unfamiliar":
                mask = values == FAMILIAR
            arrays.append(pa.array(values, type=field.type, mask=mask))
        self._buffered.append(pa.Table.from_arrays(arrays, schema=self._schema))
        if sum(len(table) for table in self._buffered) >= ROW_GROUP:
            table = pa.concat_tables(self._buffered)
            self._writer.write_table(table.slice(0, ROW_GROUP))
            self._buffered = [table.slice(ROW_GROUP)]

    def finish(self) -> None:
        """Write the last row group."""
        if self._buffered:
            self._writer.write_table(pa.concat_tables(self._buffered))

    def close(self) -> None:
        """Write the footer and close the file."""
        self._writer.close()


class NpzFile:
    """Buffers all columns and writes them at the end, because the format does not support appending."""

    def __init__(self, path: Path, layout: Layout) -> None:
        """Store the path; the file is written by `finish`."""
        self._path = path
        self._layout = layout
        self._parts: dict[str, list[NDArray[Any]]] = {}

    def write(self, rows: Rows) -> None:
        """Append rows."""
        for name, values in matrices_of(rows, self._layout).items():
            self._parts.setdefault(name, []).append(values)

    def finish(self) -> None:
        """Write the file."""
        arrays: dict[str, Any] = {name: np.concatenate(parts) for name, parts in self._parts.items()}
        if self._layout.probs:
            arrays |= {f"{f.name}_class_names": np.array(f.class_names) for f in self._layout.manifest.factors}
        arrays["metadata"] = np.array(json.dumps(dict(self._layout.metadata)))
        with self._path.open("wb") as file:  # NumPy would append .npz to a path without it.
            np.savez(file, **arrays)

    def close(self) -> None:
        """Do nothing: no file is open between writes."""
