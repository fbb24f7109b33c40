"""Folders of images and patterns of paths, on this machine and at URLs."""

from __future__ import annotations

import itertools
import os
import posixpath
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from partedvae.common.globs import compile_pattern, depth_of
from partedvae.common.image_folder import TABLES, ImageWalk, LeftOut, image_endings, reason_to_leave_out
from partedvae.common.progress import progress_bar
from partedvae.common.urls import is_url
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.extract.sources.files import FileReader
from partedvae.serving.extract.sources.keys import PathKeys
from partedvae.serving.extract.sources.listed import ListedSource
from partedvae.serving.extract.sources.listing import sorted_table, table_of
from partedvae.serving.extract.sources.options import InputOptions
from partedvae.serving.extract.sources.remote import RemoteFiles
from partedvae.serving.extract.sources.remote_listing import find_files
from partedvae.serving.extract.sources.source import NO_COLUMNS

LOCAL = pa.schema({"name": pa.large_binary(), "size": pa.int64(), "modified": pa.int64()})
REMOTE = pa.schema({"name": pa.large_binary(), "size": pa.int64(), "version": pa.large_binary()})
STAT_THREADS = 8
STAT_BATCH = 512
"""Files whose sizes and dates a thread asks for at a time."""


def open_folder(folder: str, given: str, options: InputOptions, patterns: Sequence[str] = ()) -> ListedSource:
    """List the images of a folder and its subfolders, in the order of their names.

    Args:
        folder: path or URL.
        given: the folder as it was typed.
        options: options of the input.
        patterns: of the names to take, relative to the folder; see `partedvae.common.globs`. All are taken by default.

    Raises:
        InvalidInputError: there are none.
        StorageError: the URL cannot be listed.
        OSError: the folder cannot be read.
    """
    wanted = [compile_pattern(pattern) for pattern in patterns]
    depths = [depth_of(pattern) for pattern in patterns]
    depth = None if not depths or None in depths else max(each or 0 for each in depths)

    def fits(name: str) -> bool:
        return not wanted or any(pattern.fullmatch(name) for pattern in wanted)

    rows: Iterator[tuple[object, ...]]
    if is_url(folder):
        left_out = LeftOut()
        rows, schema = _remote_rows(folder, depth, fits, left_out), REMOTE
    else:
        walk = ImageWalk(Path(folder), depth=depth, wanted=fits)
        rows, schema, left_out = _local_rows(walk), LOCAL, walk.left_out
    with progress_bar(None, unit="img", title="listing") as bar:
        table = table_of(_counted(rows, bar.update), schema)
    if not len(table):
        shown = " or ".join(posixpath.join(given, pattern) for pattern in patterns[:3]) or given
        raise InvalidInputError(_no_images(shown, left_out))
    return ListedSource(
        table=sorted_table(table, "name"),
        reader=FileReader(
            folder, RemoteFiles(options.read_timeout), needs=("size",) if is_url(folder) else (), listed=True
        ),
        keys=PathKeys(style=options.path_style, given=given, folder=folder),
        columns=NO_COLUMNS,
        left_out=left_out,
    )


def _local_rows(walk: ImageWalk) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, size and date of each file. Several threads ask for them: a file server answers after a while."""
    asked: deque[Future[list[tuple[bytes, int, int]]]] = deque()
    found = iter(walk)
    with ThreadPoolExecutor(STAT_THREADS, thread_name_prefix="partedvae-listing") as pool:
        while entries := list(itertools.islice(found, STAT_BATCH)):
            asked.append(pool.submit(_with_facts, entries))
            if len(asked) > 2 * STAT_THREADS:
                yield from asked.popleft().result()
        while asked:
            yield from asked.popleft().result()


def _with_facts(entries: list[tuple[str, os.DirEntry[str]]]) -> list[tuple[bytes, int, int]]:
    rows = []
    for name, entry in entries:
        try:
            facts = entry.stat()
        except OSError:  # It is a row with the reason when it is read.
            rows.append((os.fsencode(name), -1, -1))
        else:
            rows.append((os.fsencode(name), facts.st_size, facts.st_mtime_ns))
    return rows


def _remote_rows(
    folder: str, depth: int | None, fits: Callable[[str], bool], left_out: LeftOut
) -> Iterator[tuple[bytes, int, bytes]]:
    endings = image_endings()
    for file in find_files(folder, depth):
        if not fits(file.name):
            continue
        reason = reason_to_leave_out(file.name, endings)
        if reason is None:
            yield os.fsencode(file.name), file.size, file.version.encode()
        elif file.name not in TABLES:
            left_out.add(reason, f"{folder.rstrip('/')}/{file.name}")


def _counted(rows: Iterator[tuple[object, ...]], update: Callable[[int], object]) -> Iterator[tuple[object, ...]]:
    for number, row in enumerate(rows, start=1):
        if number % 1000 == 0:
            update(1000)
        yield row


def _no_images(given: str, left_out: LeftOut) -> str:
    found = f"; left out: {'; '.join(left_out.lines())}" if left_out.counts else ""
    archives = [reason for reason in left_out.counts if reason.startswith("ending in .tar")]
    remedy = "; tar archives are read as 'FOLDER/*.tar'" if archives else ""
    return f"{given} contains no images ({', '.join(image_endings())}){found}{remedy}"
