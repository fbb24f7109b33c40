"""The C library's allocator: makes it return memory to the system, where it is the GNU C library."""

from __future__ import annotations

import ctypes
import os
from functools import cache

M_MMAP_THRESHOLD = -3
LARGE = 1024 * 1024
"""Bytes from which a block is returned to the system when it is freed. By default this threshold grows with the blocks
that are freed, up to 32 MiB, so that a process keeps what large messages took."""


def return_large_blocks() -> None:
    """Return large blocks to the system as soon as they are freed."""
    mallopt = _function("mallopt")
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE)


def trim() -> None:
    """Return everything that is free to the system: some milliseconds."""
    malloc_trim = _function("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def resident_memory() -> int:
    """Return the resident memory of this process in bytes; 0 where the system does not report it."""
    descriptor = _statistics()
    if descriptor is None:
        return 0
    return int(os.pread(descriptor, 256, 0).split()[1]) * os.sysconf("SC_PAGE_SIZE")


@cache
def _statistics() -> int | None:
    """Open the file that has the memory of this process, once: later there may be no free descriptor."""
    try:
        return os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _function(name: str) -> ctypes._NamedFuncPointer | None:
    try:
        return getattr(ctypes.CDLL(None), name, None)
    except (OSError, TypeError):  # Systems without such a library, such as Windows.
        return None
