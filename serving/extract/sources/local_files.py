"""Files that are read at positions: plain ones where they are; packed ones and those at URLs as a temporary copy.

A copy is made once per process, is kept for as long as it is used and a little longer, and has no name: nothing of it
remains after the process, however that ends.
"""

from __future__ import annotations

import bz2
import functools
import gzip
import io
import lzma
import os
import shutil
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from partedvae.common.regular_files import open_regular
from partedvae.common.urls import is_url
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.extract.sources.options import READ_TIMEOUT
from partedvae.serving.extract.sources.remote import RemoteFiles, Request
from partedvae.serving.extract.sources.remote_listing import version_of

KEPT_COPIES = 4
"""Temporary copies that a process keeps."""
RANGE = 16 << 20
"""Bytes per read of a file at a URL."""
_UNPACKERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".tgz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


class LocalFile:
    """A file of which any bytes can be read, from several threads."""

    def __init__(self, descriptor: int, given: str) -> None:
        """Wrap an open file.

        Args:
            descriptor: of the file; it is closed with this object.
            given: path or URL of the original, for errors.
        """
        self.given = given
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def __del__(self) -> None:
        os.close(self._descriptor)

    def open(self) -> io.BufferedReader:
        """Return a stream of the file, from its start and with a position of its own."""
        return io.BufferedReader(_Stream(self))

    def map(self, offset: int, shape: Sequence[int]) -> NDArray[np.uint8]:
        """Return an array in Fortran order at a position, mapped into memory."""
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            return np.memmap(file, dtype=np.uint8, mode="r", offset=offset, shape=tuple(shape), order="F")

    @property
    def size(self) -> int:
        """Length in bytes."""
        return os.fstat(self._descriptor).st_size

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes from a position on; fewer where the file ends."""
        buffer = np.empty(max(0, min(size, self.size - offset)), dtype=np.uint8)
        return buffer[: self.read_into(buffer, offset)].tobytes()

    def read_into(self, buffer: NDArray[np.uint8], offset: int) -> int:
        """Fill a contiguous array from a position on; return the number of bytes, fewer where the file ends."""
        view = buffer.reshape(-1).data
        done = 0
        while done < len(view):
            count = self._read_some(view[done:], offset + done)
            if not count:
                break
            done += count
        return done

    def _read_some(self, view: memoryview, offset: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._descriptor, [view[: 1 << 30]], offset)
        with self._lock:
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            content = os.read(self._descriptor, len(view))
        view[: len(content)] = content
        return len(content)


class _Stream(io.RawIOBase):
    """A position in a file."""

    def __init__(self, file: LocalFile) -> None:
        self._of = file
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._of.read_into(np.frombuffer(buffer, dtype=np.uint8), self._position)
        self._position += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._of.size}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position


def open_file(given: str, timeout: float = READ_TIMEOUT) -> LocalFile:
    """Open a file, given its path or its URL.

    Args:
        given: path or URL; .gz, .tgz, .bz2 and .xz are unpacked.
        timeout: seconds per read of a file at a URL.

    Raises:
        InvalidInputError: it cannot be unpacked.
        StorageError: its URL cannot be read.
        OSError: it cannot be read.
    """
    if not is_url(given) and not is_packed(given):
        with open_regular(Path(given)) as file:
            return LocalFile(os.dup(file.fileno()), given)
    return _copy(given, facts_of(given, timeout), timeout)


def is_packed(given: str) -> bool:
    """Return whether a file is compressed, by its name."""
    return _ending(given) in _UNPACKERS


def facts_of(given: str, timeout: float) -> str:
    """Return the length of a file and the date or version of its content.

    Args:
        given: path or URL.
        timeout: seconds that an attempt at a URL may take.

    Raises:
        StorageError: its URL cannot be read.
        OSError: it cannot be read.
    """
    if is_url(given):
        remote = version_of(given, timeout)
        return f"{remote.size} {remote.version}"
    facts = Path(given).stat()
    return f"{facts.st_size} {facts.st_mtime_ns}"


def check_unchanged(given: str, facts: str, timeout: float) -> None:
    """Check that a file is the one that was listed.

    Args:
        given: path or URL.
        facts: what `facts_of` returned then.
        timeout: seconds that an attempt at a URL may take.

    Raises:
        InvalidInputError: it was replaced or changed.
        StorageError: its URL cannot be read.
        OSError: it cannot be read.
    """
    if facts_of(given, timeout) != facts:
        raise InvalidInputError(f"{given} was changed while it was read; run the command again")


@contextmanager
def temporary_copy(given: str) -> Iterator[IO[bytes]]:
    """Yield a temporary file without a name to copy something into.

    Args:
        given: what is copied, for errors.

    Raises:
        OSError: the disk is full; the message names the folder.
    """
    try:
        with tempfile.TemporaryFile(prefix="partedvae-") as file:
            yield file
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(
                error.errno,
                f"{given} cannot be copied there: {error.strerror}; set TMPDIR to another folder",
                tempfile.gettempdir(),
            ) from error
        raise


def kept(copy: IO[bytes], given: str) -> LocalFile:
    """Return a temporary copy as a file that is read, after its context has ended too."""
    copy.flush()
    return LocalFile(os.dup(copy.fileno()), given)


@functools.lru_cache(maxsize=KEPT_COPIES)
def _copy(given: str, facts: str, timeout: float) -> LocalFile:
    """Return a copy of a file; `facts` tells its versions apart."""
    if not is_url(given):
        with open_regular(Path(given)) as packed:
            return _unpacked(packed, given)
    with temporary_copy(given) as copy:
        size = int(facts.split()[0])
        remote = RemoteFiles(timeout)
        if size <= RANGE:  # or not known
            copy.write(remote.read_one(Request(given, size)))
        else:
            requests = [Request(given, RANGE, start, min(start + RANGE, size)) for start in range(0, size, RANGE)]
            for request, content in zip(requests, remote.read(requests), strict=True):
                if not isinstance(content, bytes):
                    raise InvalidInputError(f"{given}: {content.reason}")
                if len(content) != (request.end or 0) - (request.start or 0):
                    raise InvalidInputError(f"{given} was changed while it was read; run the command again")
                copy.write(content)
        if not is_packed(given):
            return kept(copy, given)
        copy.seek(0)
        return _unpacked(copy, given)


def _unpacked(packed: IO[bytes], given: str) -> LocalFile:
    try:
        with temporary_copy(given) as copy, _UNPACKERS[_ending(given)](packed) as content:
            shutil.copyfileobj(content, copy, 1 << 20)
            return kept(copy, given)
    except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InvalidInputError(f"{given} cannot be unpacked: {error}; download it again") from error


def _ending(given: str) -> str:
    return PurePosixPath(urlsplit(given).path if is_url(given) else given).suffix.lower()
