"""Tar archives of images, such as the shards of WebDataset: one, or many by a pattern.

The key of an image is "archive.tar/member". Archives are listed by one pass over the headers of their members, and read
at the members' positions afterwards; packed ones (.tar.gz) are unpacked into a temporary file for both. Members of the
same sample (the same name up to its first dot) can be passed on as columns, named by their endings.
"""

from __future__ import annotations

import errno
import os
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pyarrow as pa

from partedvae.common.image_folder import LeftOut, image_endings, reason_to_leave_out
from partedvae.common.progress import progress_bar
from partedvae.common.retry import Retries
from partedvae.common.urls import is_url
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.extract.sources import outage
from partedvae.serving.extract.sources.keys import PathKeys
from partedvae.serving.extract.sources.listed import ListedSource, ReadFailure
from partedvae.serving.extract.sources.listing import table_of
from partedvae.serving.extract.sources.lists import check_names
from partedvae.serving.extract.sources.local_files import LocalFile, check_unchanged, facts_of, is_packed, open_file
from partedvae.serving.extract.sources.options import ALL_COLUMNS, InputOptions
from partedvae.serving.extract.sources.outage import FailureCounter, StorageError, is_outage
from partedvae.serving.extract.sources.remote import RemoteFiles, Request

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
RANGE = 8 << 20
"""Bytes of neighbouring members that are read from a URL at once."""
LOST_ARCHIVES = 4
"""Archives in a row that cannot be opened, with which the storage counts as unavailable; one may have been deleted."""
MAX_VALUE = 1 << 20
"""Bytes of a member that is passed on as a column."""


def is_tar(name: str) -> bool:
    """Return whether a name is that of a tar archive."""
    return name.lower().endswith(SUFFIXES)


def open_tars(folder: str, given: str, names: Sequence[str], options: InputOptions) -> ListedSource:
    """List the images of tar archives, archive by archive and in the order of their members.

    Args:
        folder: path or URL of the archives' folder.
        given: the folder as it was typed.
        names: names of the archives in the folder.
        options: options of the input.

    Raises:
        InvalidInputError: they have no images.
        StorageError: a URL cannot be read.
        OSError: an archive cannot be read.
    """
    if options.columns == ALL_COLUMNS:
        raise InvalidInputError("--columns all is for tables; name endings of a sample's members: --columns cls,json")
    check_names(names[0], options.columns)
    left_out = LeftOut()
    schema = pa.schema(
        {"name": pa.large_binary(), "archive": pa.int32(), "offset": pa.int64(), "size": pa.int64()}
        | {column: pa.large_string() for column in options.columns}
    )
    archives = [f"{folder}/{name}" if folder else name for name in names]
    facts = [facts_of(archive, options.read_timeout) for archive in archives]
    with progress_bar(None, unit="img", title="listing") as bar:

        def rows() -> Iterator[tuple[Any, ...]]:
            for number, (name, archive) in enumerate(zip(names, archives, strict=True)):
                for row in _rows_of(archive, name, number, options, left_out):
                    bar.update(1)
                    yield row

        table = table_of(rows(), schema)
    if not len(table):
        found = f"; left out: {'; '.join(left_out.lines())}" if left_out.counts else ""
        shown = names[0] if len(names) == 1 else f"{names[0]} … {names[-1]} ({len(names):,} archives)"
        raise InvalidInputError(f"{shown} contains no images ({', '.join(image_endings())}){found}")
    return ListedSource(
        table=table,
        reader=TarReader(dict(enumerate(zip(archives, facts, strict=True))), RemoteFiles(options.read_timeout)),
        keys=PathKeys(style=options.path_style, given=given, folder=folder),
        columns=pa.schema([schema.field(column) for column in options.columns]),
        left_out=left_out,
        facts="\n".join(facts),
    )


@dataclass(frozen=True)
class TarReader:
    """Reads members of archives at their positions."""

    archives: dict[int, tuple[str, str]]
    """Paths or URLs, and what `facts_of` returned when they were listed, by the numbers in the list."""
    remote: RemoteFiles
    needs: Sequence[str] = ("archive", "offset", "size")
    checked: set[int] = field(default_factory=set, compare=False)
    """Numbers of archives that have not changed since; a reader is of one part."""
    lost: set[int] = field(default_factory=set, compare=False)
    """Numbers of archives that are gone, or whose storage has failed, in all parts."""
    failures: FailureCounter = field(default_factory=FailureCounter, compare=False)
    _retry: Retries = field(default_factory=Retries, compare=False)

    def contents(self, rows: pa.Table) -> Iterator[bytes | ReadFailure]:
        """Yield the content of each member, or why it cannot be read.

        Raises:
            InvalidInputError: an archive is not the one that was listed, so that members are elsewhere.
            StorageError: the storage is not available.
        """
        members = list(zip(*(rows[name].to_pylist() for name in ("archive", "offset", "size")), strict=True))
        for number, run in _runs(members):
            archive, _ = self.archives[number]
            if is_url(archive) and not is_packed(archive):
                with suppress(OSError, StorageError):  # Reading its members fails too, below.
                    self._check(number)
                yield from _read_remote(archive, self.remote, run)
                continue
            try:
                self._retry(partial(self._check, number))
                file = self._retry(partial(self._open, archive))
            except OSError as error:
                self._count(number, error)
                yield from [ReadFailure(error.strerror or str(error))] * len(run)
            else:
                yield from self._read_local(file, run) if isinstance(file, LocalFile) else [file] * len(run)

    def part(self, rows: pa.Table) -> TarReader:
        """Return a reader of the archives of these rows."""
        archives = {number: self.archives[number] for number in rows["archive"].unique().to_pylist()}
        return replace(self, archives=archives, checked=set())

    def _check(self, number: int) -> None:
        """Check, once, that an archive is the one that was listed; errors are those of `check_unchanged`."""
        if number not in self.checked:
            check_unchanged(*self.archives[number], self.remote.timeout)
            self.checked.add(number)

    def _open(self, archive: str) -> LocalFile | ReadFailure:
        """Open an archive; return why it cannot be unpacked."""
        try:
            return open_file(archive, self.remote.timeout)
        except InvalidInputError as error:
            return ReadFailure(str(error))

    def _count(self, number: int, error: OSError) -> None:
        """Count an archive that cannot be opened, once for all of its members.

        Raises:
            StorageError: it is one of several in a row, whose storage is not available.
        """
        if number not in self.lost and (error.errno == errno.ENOENT or is_outage(error)):
            self.lost.add(number)
            self.failures.failed(
                self.archives[number][0], error.strerror or str(error), weight=outage.OUTAGE // LOST_ARCHIVES
            )

    def _read_local(self, file: LocalFile, run: Sequence[tuple[int, int]]) -> Iterator[bytes | ReadFailure]:
        for offset, size in run:
            try:
                content = self._retry(partial(file.read, offset, size))
            except OSError as error:
                reason = error.strerror or str(error)
                if is_outage(error):
                    self.failures.failed(file.given, reason)
                yield ReadFailure(reason)
                continue
            self.failures.succeeded()
            yield content if len(content) == size else ReadFailure(_cut(len(content), size))


def _read_remote(url: str, remote: RemoteFiles, run: Sequence[tuple[int, int]]) -> Iterator[bytes | ReadFailure]:
    """Read neighbouring members together."""
    groups: list[list[tuple[int, int]]] = []
    for offset, size in run:
        if groups and offset >= groups[-1][0][0] and offset + size - groups[-1][0][0] <= RANGE:
            groups[-1].append((offset, size))
        else:
            groups.append([(offset, size)])
    spans = [(group[0][0], max(offset + size for offset, size in group)) for group in groups]
    contents = remote.read(Request(url, end - start, start, end) for start, end in spans)
    for group, (start, _), content in zip(groups, spans, contents, strict=True):
        for offset, size in group:
            if isinstance(content, ReadFailure):
                yield content
                continue
            member = content[offset - start : offset - start + size]
            yield member if len(member) == size else ReadFailure(_cut(len(member), size))


def _runs(members: Sequence[tuple[int, int, int]]) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Divide members, (archive, offset, size), into runs of the same archive."""
    run: list[tuple[int, int]] = []
    for index, (archive, offset, size) in enumerate(members):
        run.append((offset, size))
        if index + 1 == len(members) or members[index + 1][0] != archive:
            yield archive, run
            run = []


def _cut(found: int, size: int) -> str:
    return f"the archive ends after {found:,} of its {size:,} bytes: it is truncated, download it again"


def _rows_of(
    archive: str, name: str, number: int, options: InputOptions, left_out: LeftOut
) -> Iterator[tuple[Any, ...]]:
    """Yield a row per image of an archive; where it is damaged, those before the damage."""
    file = open_file(archive, options.read_timeout)
    endings = image_endings()
    sample, values = "", dict[str, str]()
    waiting: list[tuple[Any, ...]] = []
    try:
        for member in _members(file):
            key, _, ending = _split(member.name)
            if key != sample:
                yield from (row + tuple(values.get(column) for column in options.columns) for row in waiting)
                sample, values, waiting = key, {}, []
            path = f"{name}/{member.name}"
            reason = reason_to_leave_out(member.name, endings)
            if not member.isreg():
                if not member.isdir():
                    left_out.add("neither a file nor a folder", path)
            elif ending in options.columns:
                values[ending] = _text_of(file, member)
            elif reason is not None:
                left_out.add(reason, path)
            else:
                waiting.append((os.fsencode(path), number, member.offset_data, member.size))
    except (tarfile.TarError, OSError, EOFError) as error:
        left_out.add(f"damaged, read up to the damage: {error}", archive)
    yield from (row + tuple(values.get(column) for column in options.columns) for row in waiting)


def _members(file: LocalFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar file, without keeping those that were yielded.

    Raises:
        tarfile.TarError: the file is damaged, or ends without the mark of its end.
    """
    with file.open() as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
        while (member := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]
            yield member
        # For tarfile any header that cannot be read is the end.
        end = file.read(tar.offset, tarfile.BLOCKSIZE)
        if len(end) < tarfile.BLOCKSIZE:
            raise tarfile.ReadError("the file ends without the mark of its end: it is truncated, download it again")
        if any(end):
            raise tarfile.ReadError(f"no member begins at byte {tar.offset:,}: download it again")


def _split(name: str) -> tuple[str, str, str]:
    """Return the key of a member's sample, the dot, and the member's ending."""
    folder, slash, base = name.rpartition("/")
    key, dot, ending = base.partition(".")
    return folder + slash + key, dot, ending


def _text_of(file: LocalFile, member: tarfile.TarInfo) -> str:
    return file.read(member.offset_data, min(member.size, MAX_VALUE)).decode("utf-8", "backslashreplace").strip()
