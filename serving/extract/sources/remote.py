"""Files at URLs, through fsspec: s3://, gs://, https:// and whatever else is installed.

Several reads are in flight per thread, which together occupy at most `BYTES_IN_FLIGHT`. A read that takes longer than
its timeout or fails for a reason that may pass is repeated, with growing delays. What still cannot be read is the
failure of that file, until so many in a row have failed that way that the storage is not available (`outage.py`).
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from partedvae.common.retry import Retries, is_transient
from partedvae.serving.errors import InvalidInputError, ServingError
from partedvae.serving.extract.sources.listed import ReadFailure
from partedvae.serving.extract.sources.options import READ_TIMEOUT
from partedvae.serving.extract.sources.outage import FailureCounter, StorageError

if TYPE_CHECKING:
    import fsspec

DELAYS = (0.5, 2.0, 8.0)
"""Seconds before the second, third and fourth attempt."""
IN_FLIGHT = 16
"""Reads in flight per thread."""
BYTES_IN_FLIGHT = 64 << 20
"""Bytes of all reads in flight in this process, and of those that wait to be decoded."""
UNKNOWN_SIZE = 256 << 10
"""Assumed size of a file that no listing has."""
CONNECTING, SILENCE = 10.0, {"s3": 20.0, "http": 60.0}
"""Seconds until a server has to accept a connection, and without a byte from it, by kind of storage."""
S3_ATTEMPTS = 3
"""Attempts of each request by s3fs, before those of `DELAYS`: a listing has many, and begins anew with those."""
PATIENCE = 60.0
"""Seconds after which a call without an answer is not repeated."""


@dataclass(frozen=True)
class Request:
    """What to read of a file: all of it, or the bytes from `start` to before `end`."""

    url: str
    size: int | None = None
    start: int | None = None
    end: int | None = None


class RemoteFiles:
    """Reads files at URLs. Can be pickled, and used from several threads."""

    def __init__(self, timeout: float = READ_TIMEOUT) -> None:
        """Create a reader.

        Args:
            timeout: seconds that one attempt to read a file may take.
        """
        self.timeout = timeout
        self._failures = FailureCounter()

    def __reduce__(self) -> tuple[type[RemoteFiles], tuple[float]]:
        return RemoteFiles, (self.timeout,)

    def read(self, requests: Iterable[Request]) -> Generator[bytes | ReadFailure, None, None]:
        """Yield the content of files in order; some are read ahead.

        Raises:
            StorageError: the storage is not available.
        """
        window: deque[tuple[Request, Future[bytes], int]] = deque()
        waiting = iter(requests)
        upcoming = next(waiting, None)
        try:
            while upcoming is not None or window:
                while upcoming is not None and len(window) < IN_FLIGHT:
                    size = upcoming.size if upcoming.size is not None and upcoming.size >= 0 else UNKNOWN_SIZE
                    # One per thread is always read, so that no thread waits for another one.
                    if not _budget.take(size, always=not window):
                        break
                    window.append((upcoming, self._start(upcoming), size))
                    upcoming = next(waiting, None)
                request, future, size = window.popleft()
                try:
                    yield self._result(request, future)
                finally:
                    _budget.give_back(size)
        finally:
            for _, future, size in window:
                future.cancel()
                _budget.give_back(size)

    def read_one(self, request: Request) -> bytes:
        """Return the content of one file.

        Raises:
            StorageError: it cannot be read; the message has its URL.
        """
        (content,) = self.read([request])
        if isinstance(content, ReadFailure):
            raise StorageError(f"{request.url}: {content.reason}")
        return content

    def _start(self, request: Request) -> Future[bytes]:
        future: Future[bytes]
        try:
            files, path = open_storage(request.url)
        except ServingError as error:  # one file of a list, with a scheme that is not known
            future = Future()
            future.set_exception(error)
            return future
        if getattr(files, "async_impl", False):
            future = asyncio.run_coroutine_threadsafe(self._attempts(files, path, request), files.loop)
            with _lock:
                _in_flight.add(future)
            return future
        future = Future()
        try:
            future.set_result(retried(lambda: files.cat_file(path, start=request.start, end=request.end)))
        except Exception as error:
            future.set_exception(error)
        return future

    async def _attempts(self, files: fsspec.asyn.AsyncFileSystem, path: str, request: Request) -> bytes:
        for delay in (*DELAYS, None):
            try:
                reading = files._cat_file(path, start=request.start, end=request.end)
                content: bytes = await asyncio.wait_for(reading, self.timeout)
            except Exception as error:
                if delay is None or not is_transient(error):
                    raise
                await asyncio.sleep(delay)
            else:
                return content
        raise AssertionError("the last attempt returns or raises")

    def _result(self, request: Request, future: Future[bytes]) -> bytes | ReadFailure:
        try:
            content = future.result()
        except CancelledError:
            raise
        except Exception as error:  # Every file system of fsspec raises errors of its own.
            reason = self._reason(error)
            if not is_transient(error):
                return ReadFailure(reason)
            self._failures.failed(request.url, reason)
            return ReadFailure(reason)
        self._failures.succeeded()
        if request.start is not None and request.end is not None and len(content) > request.end - request.start:
            return content[request.start : request.end]  # A server of HTTP that ignores ranges sends the whole file.
        return content

    def _reason(self, error: BaseException) -> str:
        if isinstance(error, TimeoutError):
            return f"no complete answer within {self.timeout:g} s, {1 + len(DELAYS)} times"
        return reason_of(error)


def cancel_reads() -> None:
    """End all reads in flight, so that the threads that wait for them end too."""
    with _lock:
        for future in list(_in_flight):
            future.cancel()


def open_storage(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path of the URL in it.

    Raises:
        InvalidInputError: fsspec, or what the scheme needs, is not installed, or there is no such scheme.
    """
    scheme, place = urlsplit(url)[:2]
    # Any server of HTTP is the same file system; others are of one server or bucket.
    key = (os.getpid(), scheme, "" if scheme in ("http", "https", "memory") else place)
    with _lock:
        if key not in _storages:
            _storages[key] = _new_storage(url)
        files = _storages[key]
    return files, files._strip_protocol(url)


def file_system(url: str, **options: Any) -> tuple[Any, str]:
    """Return what `fsspec.url_to_fs` does, with limits of the time in which a server has to answer.

    The defaults of the libraries add up to hours. A value of fsspec's configuration overrides those here.
    """
    import fsspec

    scheme = urlsplit(url).scheme.lower()
    if scheme in ("s3", "s3a"):
        limits = {"connect_timeout": CONNECTING, "read_timeout": SILENCE["s3"], "retries": {"max_attempts": 0}}
        options["config_kwargs"] = limits | fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
    elif scheme in ("http", "https"):
        import aiohttp

        limit = aiohttp.ClientTimeout(total=None, sock_connect=CONNECTING, sock_read=SILENCE["http"])
        options["client_kwargs"] = {"timeout": limit} | fsspec.config.conf.get(scheme, {}).get("client_kwargs", {})
    files, path = fsspec.url_to_fs(url, **options)
    if scheme in ("s3", "s3a"):
        files.retries = S3_ATTEMPTS
    return files, path


def reason_of(error: BaseException) -> str:
    """Return the reason of an error of a storage in one line."""
    if isinstance(error, FileNotFoundError):
        return "No such file or directory"
    if status := getattr(error, "status", None):
        return f"HTTP {status} {getattr(error, 'message', '')}".rstrip()
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    text = " ".join((getattr(error, "strerror", None) or str(error)).split()) or type(error).__name__
    if lacks_credentials(error):
        return f"{text}; set them as for other programs (for S3, AWS_ACCESS_KEY_ID or a profile; FSSPEC_S3_ANON=true)"
    return text


def lacks_credentials(error: BaseException) -> bool:
    """Return whether an error of a storage is that there are no credentials."""
    return type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError")  # botocore's; it may be missing


def _new_storage(url: str) -> Any:
    try:
        # Listings are not kept: of a hundred million files they would fill the memory.
        return file_system(url, use_listings_cache=False)[0]
    except ImportError as error:
        raise InvalidInputError(f"{url} needs pip install 'partedvae[cloud]' ({error})") from error
    except ValueError as error:
        raise InvalidInputError(f"{url} cannot be read: {error}") from error


def retried(read: Callable[[], Any]) -> Any:
    """Return what `read` returns, after repeating it where it fails for a reason that may pass."""

    def found() -> Any:
        try:
            return read()
        except FileNotFoundError as error:
            # fsspec raises it for all that fails when it asks for a file by HTTP.
            if error.__cause__ is not None and is_transient(error.__cause__):
                raise error.__cause__ from None
            raise

    return Retries(delays=DELAYS, patience=PATIENCE)(found)


class _Budget:
    """The bytes in flight in this process."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._lock = threading.Lock()

    def take(self, size: int, *, always: bool) -> bool:
        with self._lock:
            if not always and size > self._left:
                return False
            self._left -= size
            return True

    def give_back(self, size: int) -> None:
        with self._lock:
            self._left += size


_budget = _Budget(BYTES_IN_FLIGHT)
_storages: dict[tuple[int, str, str], Any] = {}
_lock = threading.Lock()
_in_flight: weakref.WeakSet[Future[bytes]] = weakref.WeakSet()
