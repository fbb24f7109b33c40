"""A lock that lets one process at a time write a folder, and who holds it."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

LOCK = ".lock"
"""Name of the file, in the folder."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who writes an output."""

    host: str = field(default_factory=lambda: socket.gethostname())
    pid: int = field(default_factory=os.getpid)
    started: float = field(default_factory=time.time)

    @classmethod
    def from_json(cls, text: bytes) -> Self | None:
        """Read a lock; None if it is damaged, such as by a process that was killed."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None

    def to_json(self) -> bytes:
        """Return the content of the lock."""
        return json.dumps(asdict(self)).encode()


@contextmanager
def folder_lock(folder: Path, error: Callable[[str], Exception]) -> Iterator[None]:
    """Hold the lock of a folder, which is created, for the duration of the block. It ends with the process.

    Windows, and file systems without locks, have none: there, nothing is refused.

    Args:
        folder: the folder.
        error: makes the exception from who holds the lock.

    Raises:
        error: another process holds it.
        OSError: the folder cannot be written.
    """
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


def busy(holder: Holder | None, output: Path | str) -> str:
    """Return a sentence on who writes a folder or URL.

    Args:
        holder: None if it is not known.
        output: what is written.
    """
    who = "another process"
    if holder is not None:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder.started))
        who = f"process {holder.pid} on {holder.host}, since {since},"
    return f"{who} is writing {output}"


def _acquire(path: Path, error: Callable[[str], Exception]) -> int:
    """Open and lock a file. Returns its descriptor."""
    while True:
        # In the loop: a process that ends may delete the folder, if nothing is in it.
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                _flock(descriptor, path, error)
                # The process that held it may have deleted the file since it was opened here.
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)


def _flock(descriptor: int, path: Path, error: Callable[[str], Exception]) -> None:
    try:
        import fcntl
    except ImportError:  # Windows.
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
