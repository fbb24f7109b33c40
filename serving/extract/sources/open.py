"""Opens the INPUT of batch extraction, whatever it is."""

from __future__ import annotations

import itertools
import os
import posixpath
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import pyarrow as pa

from partedvae.common.dataset_files import SPLITS
from partedvae.common.globs import compile_pattern, depth_of, expand_braces, has_wildcards, is_pattern, split_pattern
from partedvae.common.image_folder import image_endings
from partedvae.common.suggest import did_you_mean
from partedvae.common.urls import is_url, without_file_scheme
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.extract.sources.arrays import ArraySource
from partedvae.serving.extract.sources.datasets import is_dataset, open_dataset
from partedvae.serving.extract.sources.files import FileReader
from partedvae.serving.extract.sources.folders import open_folder
from partedvae.serving.extract.sources.idx import INPUTS, open_idx
from partedvae.serving.extract.sources.keys import PathKeys
from partedvae.serving.extract.sources.listed import ListedSource
from partedvae.serving.extract.sources.listing import table_of
from partedvae.serving.extract.sources.lists import (
    listed_files,
    open_csv_list,
    open_parquet,
    open_parquet_list,
    open_text_list,
    path_column,
)
from partedvae.serving.extract.sources.local_files import facts_of
from partedvae.serving.extract.sources.numpy_files import open_numpy
from partedvae.serving.extract.sources.options import DEFAULT_OPTIONS, InputOptions
from partedvae.serving.extract.sources.parquet_images import ParquetImages, has_images
from partedvae.serving.extract.sources.remote import RemoteFiles
from partedvae.serving.extract.sources.remote_listing import find_files, is_remote_folder
from partedvae.serving.extract.sources.source import NO_COLUMNS, Source
from partedvae.serving.extract.sources.tars import is_tar, open_tars

NAMES = pa.schema({"name": pa.large_binary()})
TABLES = (".csv", ".tsv", ".parquet")
LISTS = (".txt", *TABLES)


def open_source(given: str | Path, options: InputOptions = DEFAULT_OPTIONS) -> Source:
    """Open the INPUT of the command.

    Args:
        given: path, URL, pattern of either, or the name of a registered data set with its split.
        options: options of the input.

    Raises:
        InvalidInputError: it has no images, an unsupported format, or does not fit the options.
        StorageError: its URL cannot be read.
        OSError: it cannot be read.
    """
    text = os.fspath(given)
    source = _open(text, options)
    if not len(source):
        raise InvalidInputError(f"{text} contains no images")
    if options.path_style != "relative" and source.key != "path":
        raise InvalidInputError(f"--path-style is for images with paths, and the rows of {text} have an index")
    return source


def _open(given: str, options: InputOptions) -> Source:
    given = without_file_scheme(given)
    if is_url(given):
        # "?" begins the query of a URL.
        if is_pattern(given.replace("?", "")):
            return _open_pattern(given, options)
        if not is_remote_folder(given):
            return _open_file(given, options)
        _no_columns(given, options)
        return open_folder(given, given, options)
    path = Path(given)
    if path.is_dir():
        _no_columns(given, options)
        return open_folder(given, given, options)
    if os.path.lexists(path):
        return _open_file(given, options)
    if is_dataset(given):
        _no_columns(given, options)
        return open_dataset(given, options)
    if is_pattern(given):
        return _open_pattern(given, options)
    raise InvalidInputError(
        f"{given} does not exist{did_you_mean(given.partition(':')[0], SPLITS)}: pass {INPUTS}, a pattern such as "
        "'photos/**/*.png', a URL, or a data set such as mnist:test"
    )


def _open_file(given: str, options: InputOptions) -> Source:
    name = PurePosixPath(urlsplit(given).path if is_url(given) else Path(given).as_posix()).name
    ending = PurePosixPath(name).suffix.lower()
    if ending == ".txt":
        return open_text_list(given, options)
    if ending in (".csv", ".tsv"):
        return open_csv_list(given, options)
    if ending == ".parquet":
        schema = open_parquet(given, options).schema_arrow
        column = path_column(given, schema, options)
        if has_images(schema.field(column).type):
            return ParquetImages(given, column, options)
        return open_parquet_list(given, options)
    if is_tar(name):
        _no_root(given, options)
        folder, typed, last = _folder_of(given)
        return open_tars(folder, typed, [last], options)
    _no_columns(given, options)
    if ending in image_endings():
        return _open_image(given, options)
    return ArraySource(given, open_numpy if ending in (".npy", ".npz") else open_idx, options.read_timeout)


def _open_image(given: str, options: InputOptions) -> ListedSource:
    folder, typed, name = _folder_of(given)
    facts = facts_of(given, options.read_timeout)  # Also, an input that does not exist is an error rather than a row.
    return ListedSource(
        table=table_of([(os.fsencode(name),)], NAMES),
        reader=FileReader(folder, RemoteFiles(options.read_timeout)),
        keys=PathKeys(style=options.path_style, given=typed, folder=folder),
        columns=NO_COLUMNS,
        facts=facts,
    )


def _open_pattern(given: str, options: InputOptions) -> Source:
    try:
        expanded = expand_braces(given)
        split = [split_pattern(pattern) for pattern in expanded]
        folder = _common_folder([folder for folder, _ in split])
        patterns = [posixpath.join(own, rest)[len(folder) :].lstrip("/") for own, rest in split]
        wildcards = [pattern for pattern in patterns if has_wildcards(pattern)]
        for pattern in wildcards:
            compile_pattern(pattern)
    except ValueError as error:
        raise InvalidInputError(str(error)) from error
    if all(is_tar(pattern) for pattern in patterns):
        names = _matching_files(folder, patterns) if wildcards else patterns
        if not names:
            raise InvalidInputError(f"no archive matches {given}")
        _no_root(given, options)
        return open_tars(folder, folder, names, options)
    _no_columns(given, options)
    if not wildcards:
        table = table_of(((os.fsencode(name),) for name in expanded), NAMES)
        return listed_files(given, table, NO_COLUMNS, InputOptions(path_style=options.path_style, root="."))
    if any(PurePosixPath(pattern).suffix.lower() in (*LISTS, ".npy", ".npz", ".gz") for pattern in patterns):
        raise InvalidInputError(f"{given}: patterns are for images and tar archives; pass one list or array")
    return open_folder(folder or ".", folder, options, patterns)


def _matching_files(folder: str, patterns: Sequence[str]) -> list[str]:
    """Return the names in a folder that match one of some patterns, sorted."""
    compiled = [compile_pattern(pattern) for pattern in patterns]
    depths = [depth_of(pattern) for pattern in patterns]
    deepest = None if None in depths else max(depth or 0 for depth in depths)
    if is_url(folder):
        names = [file.name for file in find_files(folder, deepest)]
    else:
        names = []
        for inside, folders, files in os.walk(folder or "."):
            relative = os.path.relpath(inside, folder or ".")
            level = 0 if relative == "." else relative.count(os.sep) + 1
            names += [name if level == 0 else f"{Path(relative).as_posix()}/{name}" for name in files]
            if deepest is not None and level >= deepest:
                folders.clear()
    return sorted(name for name in names if any(pattern.fullmatch(name) for pattern in compiled))


def _folder_of(given: str) -> tuple[str, str, str]:
    """Return the folder of a file, that folder as it was typed, and the file's name in it."""
    typed, _, name = given.rpartition("/")
    if given.startswith("/") and not typed:
        typed = "/"
    return (typed if is_url(given) else typed or "."), typed, name


def _common_folder(folders: Sequence[str]) -> str:
    """Return the deepest folder of all folders; empty for the current one."""
    common = folders[0].split("/")
    for folder in folders[1:]:
        same = zip(common, folder.split("/"), strict=False)
        common = [part for part, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], same)]
    return "/".join(common) or ("/" if common and folders[0].startswith("/") else "")


def _no_columns(given: str, options: InputOptions) -> None:
    for option, value in (("--columns", options.columns), ("--path-column", options.path_column)):
        if value:
            raise InvalidInputError(f"{option} is for tables and tar archives, and {given} is neither")
    _no_root(given, options)


def _no_root(given: str, options: InputOptions) -> None:
    if options.root is not None:
        raise InvalidInputError(f"--root is for lists of paths, and {given} is none")
