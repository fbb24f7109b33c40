"""Atomic file writes: readers never see a partial file, also after a crash. Errors name the file."""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a full disk, an exhausted quota, and a file above the limit of the process (`ulimit -f`)."""


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; after the block flush the file to disk and rename it to `path`.

    When the block raises, the temporary file is deleted and `path` is unchanged. A symbolic link stays one, and the
    folder is that of its target. The temporary name contains the process id and random digits, so that processes of
    this and of other machines can write the same file; the last one wins.

    Raises:
        OSError: the file cannot be written; it names `path`, and the remedy where the disk is full.
    """
    target = Path(os.path.realpath(path))  # A link stays, and its target is replaced.
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.{os.getpid()}.partial")
    try:
        temporary.touch()  # Here, since other libraries' errors do not name the file as that of the system does.
        yield temporary
        fsync(temporary)
        temporary.replace(target)
    except OSError as error:
        # The temporary name means nothing to a user, and a write to a full disk has no name at all.
        if error.filename in (str(temporary), temporary) or (error.filename is None and error.errno in FULL):
            raise write_error(error, path) from error
        raise
    finally:
        with suppress(OSError):  # It could not be created.
            temporary.unlink()


@contextmanager
def appending(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file to append to, and flush it to disk after the block; where writing fails, it is left as it was.

    Raises:
        OSError: the file cannot be written; it names `path`, and the remedy where the disk is full.
    """
    size = path.stat().st_size if path.exists() else 0
    try:
        with path.open("ab") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if path.exists():
            os.truncate(path, size)
        raise write_error(error, path) from error


def write_error(error: OSError, path: Path) -> OSError:
    """Return an error with the name of the file that could not be written, and the remedy where the disk is full.

    Args:
        error: the error of the system.
        path: the file.
    """
    reason = error.strerror or str(error)
    if error.errno in FULL:
        kept = "the earlier file is unchanged" if path.exists() else "nothing was written"
        reason += f"; {kept}; free space there, or write elsewhere"
    return OSError(error.errno, reason, str(path))


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def fsync(path: Path) -> None:
    """Flush a file, or the entries of a directory, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
