"""Lets one process at a time write an output: a lock of the system for a local folder, a lease for one at a URL."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from partedvae.serving.errors import ServingError

LOCK = ".lock"
"""Name of the file, in the folder."""
RENEWED = 10.0
"""Seconds after which a lease is renewed."""
EXPIRED = 60.0
"""Seconds without renewal after which a lease is that of a process which was killed."""
POLL = 1.0
"""Seconds after which the lease of another process is read again."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who writes an output."""

    host: str = field(default_factory=lambda: socket.gethostname())
    pid: int = field(default_factory=os.getpid)
    started: float = field(default_factory=time.time)
    renewed: float = field(default_factory=time.time)
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    @classmethod
    def from_json(cls, text: bytes) -> Holder | None:
        """Read a lock; None if it is damaged, such as by a process that was killed."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None

    def to_json(self) -> bytes:
        """Return the content of the lock."""
        return json.dumps(asdict(self) | {"renewed": time.time()}).encode()

    def may_run(self) -> bool:
        """Return whether the process may still run; on this machine, another one may have its number by now."""
        if self.host == socket.gethostname():
            try:
                os.kill(self.pid, 0)
            except ProcessLookupError:
                return False
            except OSError:  # It belongs to another user.
                pass
        return time.time() - self.renewed < EXPIRED


@contextmanager
def local_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is created, for the duration of the block. It ends with the process.

    Raises:
        ServingError: another process holds it.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    descriptor = _acquire(path)
    try:
        os.truncate(descriptor, 0)
        os.write(descriptor, Holder().to_json())
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _acquire(path: Path) -> int:
    """Open and lock a file. Returns its descriptor."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _flock(descriptor, path)
            # The process that held it may have deleted the file since it was opened here.
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _flock(descriptor: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows, which does not let two processes replace a file that one has open.
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = None
        with suppress(OSError):  # It has just been deleted, by the process that ends.
            holder = Holder.from_json(path.read_bytes())
        raise _busy(holder, str(path.parent)) from error
    except OSError:  # A file system without locks.
        return


@contextmanager
def lease(
    url: str, read: Callable[[], bytes | None], write: Callable[[bytes], None], delete: Callable[[], None]
) -> Iterator[None]:
    """Hold a lease for the duration of the block, renewed by a thread.

    Args:
        url: of the output.
        read: returns the content of the lock, None if there is none.
        write: replaces it.
        delete: deletes it.

    Raises:
        ServingError: another process holds it.
        OSError: the lock cannot be read or written.
    """
    holder = Holder()
    _wait_for_others(url, read)
    write(holder.to_json())
    other = _holder(read)
    if other is not None and other.token != holder.token:  # Of two that write at the same time, the first finds it.
        raise _busy(other, url)
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(RENEWED):
            with suppress(OSError):  # Parts are idempotent: a lease that is lost costs work, and no rows.
                write(holder.to_json())

    thread = threading.Thread(target=renew, name="partedvae-lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(OSError):
            delete()


def _wait_for_others(url: str, read: Callable[[], bytes | None]) -> None:
    """Return when no other process holds a lease; one that was killed is waited for until its lease has expired.

    Raises:
        ServingError: another process holds it: it was renewed meanwhile.
    """
    seen: Holder | None = None
    while (other := _holder(read)) is not None and other.may_run():
        if seen is not None and other != seen:
            raise _busy(other, url)
        seen = other
        time.sleep(POLL)


def _holder(read: Callable[[], bytes | None]) -> Holder | None:
    content = read()
    return None if content is None else Holder.from_json(content)


def _busy(holder: Holder | None, output: str) -> ServingError:
    who = "another process"
    if holder is not None:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder.started))
        who = f"process {holder.pid} on {holder.host}, since {since},"
    return ServingError(f"{who} is writing {output}; wait until it has ended, or choose another --output")
