"""Folders at URLs that files are written into, through fsspec; see `partedvae.serving.extract.output.destination`."""

from __future__ import annotations

import errno
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, TypeVar, cast

from partedvae.common.atomic_write import FULL
from partedvae.common.folder_lock import LOCK
from partedvae.common.retry import is_timeout
from partedvae.serving.errors import InvalidInputError, ServingError
from partedvae.serving.extract.output.lease import lease
from partedvae.serving.extract.sources.remote import (
    DELAYS,
    PATIENCE,
    file_system,
    lacks_credentials,
    reason_of,
)

T = TypeVar("T")

LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ImportError, ValueError)
"""Errors at a URL that do not pass."""


@dataclass(frozen=True)
class RemoteFolder:
    """A folder at a URL of fsspec: s3://, gs://, memory://. Files are written here, and put there in one operation."""

    url: str
    """Without a slash at the end."""

    @classmethod
    def checked(cls, url: str) -> RemoteFolder:
        """Return the folder at a URL.

        Raises:
            InvalidInputError: the URL needs a package that is not installed, or is of an unknown kind.
        """
        folder = cls(url.rstrip("/"))
        _file_system(folder.url)
        return folder

    def __str__(self) -> str:
        return self.url

    @cached_property
    def _fs(self) -> Any:
        return _file_system(self.url)[0]

    @cached_property
    def _root(self) -> str:
        return _file_system(self.url)[1].rstrip("/")

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url}  # Connections stay in their process.

    def __setstate__(self, state: dict[str, Any]) -> None:
        object.__setattr__(self, "url", state["url"])

    def folder(self, name: str) -> RemoteFolder:
        """Return a folder in it."""
        return RemoteFolder(self.path(name))

    def path(self, name: str) -> str:
        """Return the URL of a file in it."""
        return f"{self.url}/{name}"

    def names(self) -> list[str]:
        """Return the names of the files and folders in it."""

        def listed() -> list[str]:
            self._fs.invalidate_cache()
            try:
                return cast(list[str], self._fs.ls(self._root, detail=False))
            except FileNotFoundError:
                return []

        return sorted({path.rstrip("/").rpartition("/")[2] for path in self._retrying(listed, str(self))})

    @contextmanager
    def create(self, name: str) -> Iterator[Path]:
        """Yield a path of the folder for temporary files."""
        with tempfile.TemporaryDirectory(prefix="partedvae-") as folder:
            local = Path(folder) / name
            try:
                yield local
            except OSError as error:
                if error.filename is None and error.errno in FULL:
                    raise OSError(
                        error.errno,
                        f"{self.path(name)} is first written there: {error.strerror}; free space, or set TMPDIR to "
                        "another folder",
                        tempfile.gettempdir(),
                    ) from error
                raise
            self._retrying(lambda: self._put(local, name), self.path(name))

    def _put(self, local: Path, name: str) -> None:
        self._fs.makedirs(self._root, exist_ok=True)
        self._fs.put_file(str(local), f"{self._root}/{name}")

    def open(self, name: str) -> IO[bytes]:
        """Open a file; what is read of it is fetched."""
        opened = self._retrying(lambda: self._fs.open(f"{self._root}/{name}", "rb"), self.path(name))
        return cast(IO[bytes], opened)

    def read(self, name: str, parse: Callable[[IO[bytes]], T]) -> T:
        """Return what a function makes of a file."""

        def parsed() -> T:
            with self._fs.open(f"{self._root}/{name}", "rb") as file:
                return parse(file)

        return self._retrying(parsed, self.path(name))

    def delete(self, name: str) -> None:
        """Delete a file."""

        def deleted() -> None:
            with suppress(FileNotFoundError):
                self._fs.rm_file(f"{self._root}/{name}")

        self._retrying(deleted, self.path(name))

    def remove(self) -> None:
        """Delete the folder, where the storage has folders."""
        if "/" in self._root.strip("/"):  # Never a bucket.
            with suppress(Exception):  # It does not exist, is not empty, or is none; nothing depends on it.
                self._fs.rmdir(self._root)

    def locked(self) -> AbstractContextManager[None]:
        """Hold a lease."""
        return lease(self.url, self._read_lock, self._write_lock, lambda: self.delete(LOCK))

    def _read_lock(self) -> bytes | None:
        def read() -> bytes | None:
            try:
                return cast(bytes, self._fs.cat_file(f"{self._root}/{LOCK}"))
            except FileNotFoundError:
                return None

        return self._retrying(read, self.path(LOCK))

    def _write_lock(self, content: bytes) -> None:
        self._retrying(lambda: self._fs.pipe_file(f"{self._root}/{LOCK}", content), self.path(LOCK))

    def _retrying(self, call: Callable[[], T], url: str) -> T:
        """Repeat a call that fails for a reason that may pass; the libraries of storages have errors of their own."""
        started = time.monotonic()
        for delay in (*DELAYS, None):
            try:
                return call()
            except Exception as error:
                silent = is_timeout(error) and time.monotonic() - started >= PATIENCE
                if silent or delay is None or isinstance(error, LASTING) or lacks_credentials(error):
                    raise _remote_error(error, url) from error
                time.sleep(delay)
        raise AssertionError


def _remote_error(error: Exception, url: str) -> Exception:
    if isinstance(error, ServingError):
        return error
    # A bucket that does not exist has an own message, unlike other things that are not there.
    reason = error.strerror if isinstance(error, OSError) and error.strerror else reason_of(error)
    number = next((number for kind, number in _NUMBERS.items() if isinstance(error, kind)), errno.EIO)
    return OSError(getattr(error, "errno", None) or number, " ".join(reason.split()), url)


_NUMBERS = {FileNotFoundError: errno.ENOENT, PermissionError: errno.EACCES}
"""Numbers of errors that libraries raise without one; `OSError` makes the same kinds of them."""


def _file_system(url: str) -> tuple[Any, str]:
    try:
        return file_system(url)
    except ImportError as error:
        raise InvalidInputError(
            f"{url} needs a package that is not installed ({error}); install it with: pip install 'partedvae[cloud]'"
        ) from error
    except ValueError as error:
        raise InvalidInputError(f"{url} cannot be opened: {error}") from error
