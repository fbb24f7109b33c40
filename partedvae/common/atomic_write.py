"""Atomic file writes: readers never see a partial file, also after a crash."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a full disk, an exceeded quota, and a file above the limit of the process (`ulimit -f`)."""


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; after the block flush the file to disk and rename it to `path`.

    When the block raises, the temporary file is deleted and `path` is unchanged. The temporary name contains the
    process id, so that several processes can write the same file; the last one wins.

    Raises:
        OSError: the disk is full, or the file cannot be written; it names `path`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield temporary
        fsync(temporary)
        temporary.replace(path)
    except OSError as error:
        if error.errno not in FULL:
            raise
        kept = "the earlier one is kept" if path.exists() else "nothing was written"
        raise OSError(error.errno, f"{error.strerror}; {kept}; free some space and try again", str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


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
