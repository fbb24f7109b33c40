"""Reading of files that a folder or a list names, where a pipe or a device of that name would never end."""

from __future__ import annotations

import errno
import os
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
    # Not `open`, whose two objects take longer than reading a small file.
    descriptor = os.open(path, _FLAGS)
    try:
        facts = os.fstat(descriptor)
        if not S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, "neither a file nor a folder", str(path))
        parts, size = [], facts.st_size + 1  # One byte more, to notice that a file grows; /proc has files of size 0.
        while part := os.read(descriptor, size):
            parts.append(part)
            size = _REST
        return parts[0] if len(parts) == 1 else b"".join(parts)
    finally:
        os.close(descriptor)
