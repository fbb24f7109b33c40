"""Reading of files that a folder or a list names, where a pipe or a device of that name would never end."""

from __future__ import annotations

import errno
import os
from io import BufferedReader
from pathlib import Path
from stat import S_ISREG


def read_file(path: Path) -> bytes:
    """Return the content of a regular file; unlike `Path.read_bytes`, a pipe or a device is an error.

    Raises:
        OSError: it is not a regular file, or cannot be read.
    """
    with open_regular(path) as file:
        return file.read()


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file; unlike `Path.open`, this does not wait for the other end of a pipe.

    Raises:
        OSError: it is not a regular file, or cannot be read.
    """
    file = open(path, "rb", opener=_open_without_waiting)  # noqa: SIM115 - the caller closes it
    if not S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "neither a file nor a folder", str(path))
    return file


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe is opened although nobody writes into it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
