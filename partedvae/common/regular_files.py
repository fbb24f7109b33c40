"""Reading of files that a folder or a list names, where a pipe or a device of that name would never end."""

from __future__ import annotations

import errno
import os
from io import BufferedReader
from pathlib import Path
from stat import S_ISREG

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
"""Not blocking: a pipe is opened although nobody writes into it."""
_REST = 1 << 16
"""Bytes per read after the size that the system reports."""


def read_file(path: str | Path) -> bytes:
    """Return the content of a regular file; unlike `Path.read_bytes`, a pipe or a device is an error.

    Raises:
        OSError: it is not a regular file, or cannot be read.
    """
    descriptor, length = _open_regular(path)
    try:
        # Not a file object, which takes longer than reading a small file. One byte more than the size, to notice that a
        # file grows; those of /proc have the size 0.
        parts, size = [], length + 1
        while part := os.read(descriptor, size):
            parts.append(part)
            size = _REST
        return parts[0] if len(parts) == 1 else b"".join(parts)
    finally:
        os.close(descriptor)


def open_regular(path: str | Path) -> BufferedReader:
    """Open a regular file; unlike `Path.open`, this does not wait for the other end of a pipe.

    Raises:
        OSError: it is not a regular file, or cannot be read.
    """
    descriptor, _ = _open_regular(path)
    return os.fdopen(descriptor, "rb")


def _open_regular(path: str | Path) -> tuple[int, int]:
    """Return the descriptor and the length of a regular file; errors are those of `open_regular`."""
    descriptor = os.open(path, _FLAGS)
    facts = os.fstat(descriptor)
    if not S_ISREG(facts.st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "neither a file nor a folder", str(path))
    return descriptor, facts.st_size
