"""The memory of this process: its size, and how the allocator of glibc treats freed blocks.

Other C libraries have no such functions, and theirs are not changed.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt in glibc."""
LARGEST = 32 << 20
"""Largest M_MMAP_THRESHOLD, in bytes, of some versions of glibc."""


def keep_freed_blocks(below: int, unused: int | None = None) -> None:
    """Keep freed blocks up to a size for later use, and return larger ones to the system, for the rest of the process.

    By default the size grows with the blocks that are freed, up to 32 MiB, and the arena of each thread keeps its own.

    Args:
        below: size in bytes.
        unused: bytes that an arena keeps unused at its end; None leaves this as it is.
    """
    mallopt = _function("mallopt")
    if mallopt is not None:
        if not mallopt(M_MMAP_THRESHOLD, below):
            mallopt(M_MMAP_THRESHOLD, min(below, LARGEST))
        if unused is not None:
            mallopt(M_TRIM_THRESHOLD, unused)


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
