"""Standard streams of a command that was started without them, as services and `>&-` do, or whose reader has gone."""

from __future__ import annotations

import os
import sys


def open_standard_streams() -> None:
    """Open closed standard streams on the null device.

    Otherwise the next files that are opened get their descriptors, and libraries that log to them write into the files.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # The lowest descriptor that is free, which is this one.
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)


def discard_stdout() -> None:
    """Write what stdout still holds, and all that follows, to the null device."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
