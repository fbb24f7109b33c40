"""Folders that files are written into: local ones, and those at a URL. A file appears in them whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, TypeVar
from urllib.parse import urlsplit

from partedvae.common.atomic_write import atomic_write, fsync
from partedvae.common.folder_lock import folder_lock
from partedvae.common.urls import is_url, without_file_scheme
from partedvae.serving.errors import InvalidInputError, ServingError
from partedvae.serving.extract.output.lease import REMEDY
from partedvae.serving.extract.output.remote_folder import RemoteFolder

T = TypeVar("T")


class Destination(Protocol):
    """A folder. Can be pickled, and used from any process that reaches it."""

    def __str__(self) -> str:
        """Return its path or URL."""

    def folder(self, name: str) -> Destination:
        """Return a folder in it."""

    def path(self, name: str) -> str:
        """Return the path or URL of a file in it."""

    def names(self) -> list[str]:
        """Return the names of the files and folders in it, sorted; none if it does not exist."""

    def create(self, name: str) -> AbstractContextManager[Path]:
        """Yield a local path to write a file to, which appears under its name if the block succeeds.

        The folder is created where it does not exist. A file of the same name is replaced.

        Raises:
            OSError: it cannot be written; the error names it.
        """

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading, at any position."""

    def read(self, name: str, parse: Callable[[IO[bytes]], T]) -> T:
        """Return what a function makes of a file; it may be called again where the file is at a URL.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: it cannot be read.
        """

    def delete(self, name: str) -> None:
        """Delete a file, if it exists."""

    def remove(self) -> None:
        """Delete the folder, if it exists and is empty."""

    def locked(self) -> AbstractContextManager[None]:
        """Keep other processes from writing there for the duration of the block.

        Raises:
            ServingError: another process is writing there.
            OSError: it cannot be written.
        """


@dataclass(frozen=True)
class LocalFolder:
    """A folder of this machine. Files are written beside, flushed to disk, and renamed."""

    root: Path

    def __str__(self) -> str:
        return str(self.root)

    def folder(self, name: str) -> LocalFolder:
        """Return a folder in it."""
        return LocalFolder(self.root / name)

    def path(self, name: str) -> str:
        """Return the path of a file in it."""
        return str(self.root / name)

    def names(self) -> list[str]:
        """Return the names of the files and folders in it."""
        try:
            return sorted(entry.name for entry in self.root.iterdir())
        except FileNotFoundError:
            return []

    @contextmanager
    def create(self, name: str) -> Iterator[Path]:
        """Yield a path beside the file."""
        self.root.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.root / name) as temporary:
            yield temporary
        if os.name == "posix":
            fsync(self.root)  # The name, too, survives a power failure.

    def open(self, name: str) -> IO[bytes]:
        """Open a file."""
        return (self.root / name).open("rb")

    def read(self, name: str, parse: Callable[[IO[bytes]], T]) -> T:
        """Return what a function makes of a file."""
        with self.open(name) as file:
            return parse(file)

    def delete(self, name: str) -> None:
        """Delete a file."""
        (self.root / name).unlink(missing_ok=True)

    def remove(self) -> None:
        """Delete the folder."""
        with suppress(OSError):  # It does not exist, or is not empty.
            self.root.rmdir()

    def locked(self) -> AbstractContextManager[None]:
        """Hold a lock of the system."""
        return folder_lock(self.root, lambda holder: ServingError(f"{holder}; {REMEDY}"))


def delete_partial(folder: Destination, start: str) -> None:
    """Delete files that processes which were killed have written aside; none may write there any more.

    Args:
        folder: where they are.
        start: of the names of the complete files.
    """
    for name in folder.names():
        if name.startswith(f".{start}") and name.endswith(".partial"):
            folder.delete(name)


def open_destination(output: str) -> Destination:
    """Return a folder by its path or URL; nothing is created.

    Raises:
        InvalidInputError: the URL needs a package that is not installed, or is of an unknown kind.
    """
    output = without_file_scheme(output)
    if not is_url(output):
        return LocalFolder(Path(output))
    parts = urlsplit(output)
    if parts.scheme in ("http", "https"):
        raise InvalidInputError(f"{output} cannot be written: pass a local path, or the URL of an object store")
    if not parts.netloc and not parts.path.strip("/"):
        raise InvalidInputError(f"{output} names no bucket or folder; pass a URL such as s3://bucket/features")
    return RemoteFolder.checked(output)
