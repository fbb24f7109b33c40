"""Reads columns of files of features, a table at a time, whatever their format."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import PurePosixPath
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq

from partedvae.serving.errors import InvalidInputError
from partedvae.serving.explore.features.columns import FeatureColumns
from partedvae.serving.extract.output.feature_files import ROW_GROUP, read_footer
from partedvae.serving.extract.sources.local_files import LocalFile, open_file


class Reader(Protocol):
    """Reads one file."""

    names: Sequence[str]
    """Its columns."""
    metadata: Mapping[str, str]
    """Texts of its footer, with their prefix; none of a CSV file."""

    def count(self) -> int:
        """Return the number of its rows."""

    def tables(self, columns: FeatureColumns) -> Iterator[pa.Table]:
        """Yield some columns of consecutive rows, of all rows in total."""

    def close(self) -> None:
        """Close the file."""


@contextmanager
def open_reader(given: str, copy: LocalFile | None = None) -> Iterator[Reader]:
    """Open a file by its ending, and close it after the block.

    Args:
        given: path or URL of a .parquet, .arrow, .csv or .npz.
        copy: the file itself, if it has been opened before; it stays open.

    Raises:
        InvalidInputError: it is damaged, or not what its ending says; also for errors of the block.
        OSError: it cannot be read.
    """
    suffix = PurePosixPath(given).suffix.lower()
    file = open_file(given) if copy is None else copy
    with checked(given), closing(_READERS[suffix](file)) as reader:
        yield reader


@contextmanager
def checked(given: str) -> Iterator[None]:
    """Raise the errors of a damaged file as an `InvalidInputError` that names it."""
    try:
        yield
    except InvalidInputError:
        raise
    except (pa.ArrowException, ValueError, LookupError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidInputError(
            f"{given} cannot be read: {reason}; it is damaged, or was not written by 'partedvae extract'"
        ) from error


class _ParquetReader:
    def __init__(self, file: LocalFile) -> None:
        self._stream = file.open()
        self._file = pq.ParquetFile(self._stream, buffer_size=1 << 20)
        self.names: Sequence[str] = self._file.schema_arrow.names
        self.metadata: Mapping[str, str] = _footer(".parquet", file)

    def count(self) -> int:
        return int(self._file.metadata.num_rows)

    def tables(self, columns: FeatureColumns) -> Iterator[pa.Table]:
        for batch in self._file.iter_batches(ROW_GROUP, columns=columns.names):
            yield pa.Table.from_batches([batch])

    def close(self) -> None:
        self._stream.close()


class _ArrowReader:
    def __init__(self, file: LocalFile) -> None:
        self._stream = file.open()
        self._reader = pa.ipc.open_file(self._stream)
        self.names: Sequence[str] = self._reader.schema.names
        self.metadata: Mapping[str, str] = _footer(".arrow", file)

    def count(self) -> int:
        return int(self._reader.count_rows())

    def tables(self, columns: FeatureColumns) -> Iterator[pa.Table]:
        for k in range(self._reader.num_record_batches):
            yield pa.Table.from_batches([self._reader.get_batch(k)]).select(columns.names)

    def close(self) -> None:
        self._stream.close()


class _CsvReader:
    def __init__(self, file: LocalFile) -> None:
        self._file = file
        self.metadata: Mapping[str, str] = {}
        self.names: Sequence[str] = self._open(pc_csv.ConvertOptions()).schema.names

    def _open(self, convert: pc_csv.ConvertOptions) -> pc_csv.CSVStreamingReader:
        parse = pc_csv.ParseOptions(newlines_in_values=True)
        return pc_csv.open_csv(self._file.open(), parse_options=parse, convert_options=convert)

    def count(self) -> int:
        first = self.names[0]
        only = pc_csv.ConvertOptions(include_columns=[first], column_types={first: pa.string()})
        return sum(len(batch) for batch in self._open(only))

    def tables(self, columns: FeatureColumns) -> Iterator[pa.Table]:
        # The type of other columns would be that of their first rows, and a class named 7 a number.
        texts = (*columns.texts, *columns.passed_on)
        types = dict.fromkeys(columns.numbers, pa.float32()) | dict.fromkeys(texts, pa.string())
        convert = pc_csv.ConvertOptions(include_columns=columns.names, column_types=types)
        for batch in self._open(convert):
            yield pa.Table.from_batches([batch])

    def close(self) -> None:
        """Do nothing: each pass opens the file anew."""


class _NpzReader:
    def __init__(self, file: LocalFile) -> None:
        self._arrays: Any = np.load(file.open())
        if not isinstance(self._arrays, np.lib.npyio.NpzFile):
            raise InvalidInputError(f"{file.given} is one array and not an .npz of features")
        self.metadata: Mapping[str, str] = (
            json.loads(str(self._arrays["metadata"])) if "metadata" in self._arrays.files else {}
        )
        self.names: Sequence[str] = self._arrays.files

    def count(self) -> int:
        return len(self._arrays[self.names[0]])

    def tables(self, columns: FeatureColumns) -> Iterator[pa.Table]:
        yield pa.table({name: _column(self._arrays[name]) for name in columns.names})

    def close(self) -> None:
        self._arrays.close()


def _column(values: np.ndarray[Any, Any]) -> pa.Array:
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def _footer(suffix: str, file: LocalFile) -> Mapping[str, str]:
    footer = read_footer(suffix, file.open())
    return footer.metadata if footer is not None else {}


_READERS: dict[str, Callable[[LocalFile], Reader]] = {
    ".parquet": _ParquetReader,
    ".arrow": _ArrowReader,
    ".csv": _CsvReader,
    ".npz": _NpzReader,
}
"""By the ending of the file."""
