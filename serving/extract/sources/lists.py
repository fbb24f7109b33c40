"""Lists of images: text with a path per line, and CSV and Parquet files with a column of paths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq

from partedvae.common.suggest import did_you_mean
from partedvae.common.text_files import TextError, iterate_names
from partedvae.common.urls import is_url
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.extract.sources.files import FileReader
from partedvae.serving.extract.sources.keys import PathKeys, located
from partedvae.serving.extract.sources.listed import ListedSource
from partedvae.serving.extract.sources.listing import TableWriter, table_of
from partedvae.serving.extract.sources.local_files import open_file
from partedvae.serving.extract.sources.options import ALL_COLUMNS, InputOptions
from partedvae.serving.extract.sources.remote import RemoteFiles
from partedvae.serving.extract.sources.source import NO_COLUMNS

PATH_COLUMNS = (
    *("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "image_file"),
    *("img", "img_path", "url", "image_url", "uri", "key"),
)
"""Usual names of a column of paths, in lower case."""
RESERVED = frozenset({"path", "index", "error", "unfamiliar"})
"""Columns of every output; those of a model's factors are checked where the output is laid out."""
NAME = pa.large_binary()


def open_text_list(given: str, options: InputOptions) -> ListedSource:
    """Open a list with one path or URL per line.

    Raises:
        InvalidInputError: it is not text, or is empty.
        OSError: it cannot be read.
    """
    if options.columns or options.path_column is not None:
        raise InvalidInputError(
            f"{given} has one path per line, and no columns: --columns and --path-column are for tables"
        )
    try:
        with open_file(given, options.read_timeout).open() as file:
            table = table_of(((name,) for name in iterate_names(file)), pa.schema({"name": NAME}))
    except TextError as error:
        raise InvalidInputError(f"{given} cannot be read as a list of paths, one per line: {error}") from error
    return listed_files(given, table, NO_COLUMNS, options)


def open_csv_list(given: str, options: InputOptions) -> ListedSource:
    """Open a table of text whose first line has the names of its columns, separated by commas, semicolons or tabs.

    Raises:
        InvalidInputError: it is damaged, is empty, or has no column of paths.
        OSError: it cannot be read.
    """
    file = open_file(given, options.read_timeout)
    start = file.read(0, 1 << 16)
    encoding = "utf16" if start.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf8"
    header = start.decode(encoding, "replace").split("\n", 1)[0]
    parse = pc_csv.ParseOptions(delimiter=max(",;\t", key=header.count), newlines_in_values=True)
    read = pc_csv.ReadOptions(encoding=encoding)

    def stream(columns: list[str] | None, types: dict[str, pa.DataType]) -> pc_csv.CSVStreamingReader:
        convert = pc_csv.ConvertOptions(include_columns=columns, column_types=types, strings_can_be_null=False)
        return pc_csv.open_csv(file.open(), read_options=read, parse_options=parse, convert_options=convert)

    try:
        schema = pa.schema([field.with_type(pa.string()) for field in stream(None, {}).schema])
        path = path_column(given, schema, options)
        passed = passed_columns(given, schema, path, options)
        writer = TableWriter(pa.schema({"name": pa.large_binary()}))
        for batch in stream([path], {path: NAME}):
            writer.write(batch.rename_columns(["name"]))
        table = writer.finish()
        if passed:
            # The whole file is read to find the types of columns: the first rows may have integers only.
            convert = pc_csv.ConvertOptions(include_columns=passed)
            values = pc_csv.read_csv(file.open(), read_options=read, parse_options=parse, convert_options=convert)
            for field, column in zip(values.schema, values.columns, strict=True):
                table = table.append_column(field, column)
    except pa.ArrowInvalid as error:
        raise InvalidInputError(f"{given} cannot be read as a table: {_first_line(error)}") from error
    return listed_files(given, table, table.drop_columns("name").schema, options)


def open_parquet_list(given: str, options: InputOptions) -> ListedSource:
    """Open the column of paths of a Parquet file.

    Raises:
        InvalidInputError: it is damaged, is empty, or has no column of paths.
        OSError: it cannot be read.
    """
    file = open_parquet(given, options)
    schema = file.schema_arrow
    path = path_column(given, schema, options)
    passed = passed_columns(given, schema, path, options)
    kept = pa.schema([pa.field("name", NAME), *(schema.field(name) for name in passed)])
    writer = TableWriter(kept)
    try:
        for batch in file.iter_batches(columns=[path, *passed]):
            names = pa.compute.cast(batch.column(path), pa.large_string()).cast(NAME)
            writer.write(pa.RecordBatch.from_arrays([names, *(batch.column(name) for name in passed)], schema=kept))
    except pa.ArrowInvalid as error:
        raise InvalidInputError(f"{given} cannot be read as a Parquet file: {_first_line(error)}") from error
    table = writer.finish()
    return listed_files(given, table, table.drop_columns("name").schema, options)


def open_parquet(given: str, options: InputOptions) -> pq.ParquetFile:
    """Open a Parquet file; column chunks are read in pieces.

    Raises:
        InvalidInputError: it is damaged.
        OSError: it cannot be read.
    """
    try:
        return pq.ParquetFile(open_file(given, options.read_timeout).open(), buffer_size=1 << 20)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InvalidInputError(f"{given} cannot be read as a Parquet file: {_first_line(error)}") from error


def path_column(given: str, schema: pa.Schema, options: InputOptions) -> str:
    """Return the name of the column of paths.

    Raises:
        InvalidInputError: there is none, or more than one.
    """
    names = schema.names
    if options.path_column is not None:
        if options.path_column not in names:
            raise InvalidInputError(
                f"{given} has no column {options.path_column!r}{did_you_mean(options.path_column, names)} "
                f"(there are: {', '.join(names)})"
            )
        return options.path_column
    usual = [name for name in names if name.lower() in PATH_COLUMNS]
    if len(usual) != 1:
        problem = f"columns that may have the paths: {', '.join(usual)}" if usual else "no column of paths"
        raise InvalidInputError(f"{given} has {problem}; pass --path-column with one of: {', '.join(names)}")
    (name,) = usual
    return str(name)


def passed_columns(given: str, schema: pa.Schema, path: str, options: InputOptions) -> list[str]:
    """Return the names of the columns to pass on.

    Raises:
        InvalidInputError: one does not exist, or would hide a column of the output.
    """
    others = [name for name in schema.names if name != path]
    columns = others if options.columns == ALL_COLUMNS else list(dict.fromkeys(options.columns))
    for name in columns:
        if name not in others:
            known = f"{did_you_mean(name, others)} (there are: {', '.join(others)})"
            raise InvalidInputError(f"{given} has no column {name!r} to pass on{known}")
    check_names(given, columns)
    return columns


def check_names(given: str, columns: Sequence[str]) -> None:
    """Check that no column to pass on has the name of one of the output.

    Raises:
        InvalidInputError: one has.
    """
    for name in columns:
        if name in RESERVED:
            raise InvalidInputError(
                f"the column {name!r} of {given} has the name of one of the output; leave it out, or rename it"
            )


def listed_files(given: str, table: pa.Table, columns: pa.Schema, options: InputOptions) -> ListedSource:
    """Return the source of a table of paths.

    Raises:
        InvalidInputError: it is empty.
    """
    if not len(table):
        raise InvalidInputError(f"{given} contains no images")
    folder = options.root or (given.rpartition("/")[0] if is_url(given) else str(Path(given).parent))
    return ListedSource(
        table=table,
        reader=FileReader(folder, RemoteFiles(options.read_timeout)),
        keys=PathKeys(style=options.path_style, given="", folder=folder),
        columns=columns,
        facts=located(folder) if _has_relative(table["name"]) else "",
    )


def _has_relative(names: pa.ChunkedArray) -> bool:
    """Return whether some paths are relative, and so those of other files when the list is elsewhere."""
    elsewhere = pa.compute.or_(pa.compute.starts_with(names, b"/"), pa.compute.match_substring(names, b":/"))
    return not pa.compute.all(elsewhere).as_py()


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
