"""Repeats reading after errors that pass by themselves, such as those of a network file system."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

DELAYS = (0.1, 0.4)
"""Seconds before the second and the third attempt."""
TRANSIENT = frozenset(
    getattr(errno, name)
    for name in (
        # A disk or a server that answers again later, and a lease or a ticket that is renewed.
        *("EIO", "EACCES", "ESTALE", "EAGAIN", "EBUSY", "EINTR", "ETIMEDOUT", "EREMOTEIO", "EKEYEXPIRED"),
        *("ENETDOWN", "ENETUNREACH", "EHOSTDOWN", "EHOSTUNREACH", "ECONNRESET", "ECONNREFUSED", "ENOTCONN"),
        # Too many open files, in this process or on the machine.
        *("EMFILE", "ENFILE"),
    )
    if hasattr(errno, name)
)
"""Error numbers that may pass. EACCES is one: file servers answer with it while they restart or a ticket expires."""


class Retries:
    """Calls functions that read, and repeats those that fail for a reason that may pass. Can be used from threads.

    After `limit` functions that failed in spite of it, errors are raised at once, so that a folder of a million
    unreadable files does not take days.
    """

    def __init__(self, limit: int = 20, sleep: Callable[[float], None] = time.sleep) -> None:
        """Create retries for the files of one source.

        Args:
            limit: functions that may fail before nothing is repeated any more.
            sleep: waits for a number of seconds; another function in tests.
        """
        self._left = limit
        self._sleep = sleep

    def __call__(self, read: Callable[[], T]) -> T:
        """Return what `read` returns.

        Raises:
            OSError: the last attempt failed, or an earlier one for a reason that does not pass.
        """
        for delay in DELAYS if self._left > 0 else ():
            try:
                return read()
            except OSError as error:
                if error.errno not in TRANSIENT:
                    raise
            self._sleep(delay)
        try:
            return read()
        except OSError as error:
            if error.errno in TRANSIENT:
                self._left -= 1
            raise
