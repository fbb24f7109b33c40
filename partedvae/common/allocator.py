"""How the allocator of the C library treats large blocks."""

from __future__ import annotations

import ctypes
import functools
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt in glibc."""
KEEP_BELOW = 4 << 20
"""Size in bytes up to which freed blocks are kept."""


@functools.cache
def return_large_blocks() -> None:
    """Make glibc return large blocks to the system when they are freed, for the rest of the process.

    By default it learns from the first large block to keep those that follow, separately for each thread: 40 threads
    that have decoded a photograph each keep its memory 40 times. Other C libraries have no mallopt.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, KEEP_BELOW)
        mallopt(M_TRIM_THRESHOLD, KEEP_BELOW)
