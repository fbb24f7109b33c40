"""A lock that lets one process at a time write a folder, and who holds it."""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

LOCK = ".lock"
"""Name of the file, in the folder."""
EXPIRED = 60.0
"""Seconds without renewal after which a lock at a URL is that of a process which was killed."""


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
def folder_lock(folder: Path, error: Callable[[str], Exception]) -> Iterator[None]:
    """Hold the lock of a folder, which is created, for the duration of the block. It ends with the process.

    Args:
        folder: the folder.
        error: makes the exception from its message.

    Raises:
        error: another process holds it.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    descriptor = _acquire(path, error)
    try:
        os.truncate(descriptor, 0)
        os.write(descriptor, Holder().to_json())
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _acquire(path: Path, error: Callable[[str], Exception]) -> int:
    """Open and lock a file. Returns its descriptor."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _flock(descriptor, path, error)
            # The process that held it may have deleted the file since it was opened here.
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _flock(descriptor: int, path: Path, error: Callable[[str], Exception]) -> None:
    try:
        import fcntl
    except ImportError:  # Windows, which does not let two processes replace a file that one has open.
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as blocked:
        holder = None
        with suppress(OSError):  # It has just been deleted, by the process that ends.
            holder = Holder.from_json(path.read_bytes())
        raise error(busy(holder, path.parent)) from blocked
    except OSError:  # A file system without locks.
        return


def busy(holder: Holder | None, output: Path | str) -> str:
    """Return the message of an error: who writes an output, and what to do.

    Args:
        holder: None if it is not known.
        output: folder or URL.
    """
    who = "another process"
    if holder is not None:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder.started))
        who = f"process {holder.pid} on {holder.host}, since {since},"
    return f"{who} is writing {output}; wait until it has ended, or choose another --output"
