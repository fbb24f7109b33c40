"""Repeats reading after errors that pass by themselves, such as those of a network file system or an object store."""

from __future__ import annotations

import errno
import math
import time
from collections.abc import Callable, Sequence
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

TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses of HTTP that may pass: too many requests, and a server that is overloaded or restarts."""
_TRANSIENT_CLASSES = frozenset({"ClientConnectionError", "ClientPayloadError", "HTTPClientError"})
"""Bases of the errors of connections in aiohttp and botocore, neither of which may be installed."""


def is_transient(error: BaseException) -> bool:
    """Return whether an error may pass by itself."""
    if isinstance(error, TimeoutError | ConnectionError) or getattr(error, "errno", None) in TRANSIENT:
        return True
    if getattr(error, "status", None) in TRANSIENT_STATUSES:
        return True
    return any(kind.__name__ in _TRANSIENT_CLASSES for kind in type(error).__mro__)


def is_timeout(error: BaseException) -> bool:
    """Return whether an error is that there was no answer in time; botocore's have classes of their own."""
    return isinstance(error, TimeoutError) or type(error).__name__ in ("ConnectTimeoutError", "ReadTimeoutError")


class Retries:
    """Calls functions that read, and repeats those that fail for a reason that may pass. Can be used from threads.

    After `limit` functions that failed in spite of it, errors are raised at once, so that a folder of a million
    unreadable files does not take days.
    """

    def __init__(
        self,
        limit: int = 20,
        sleep: Callable[[float], None] = time.sleep,
        delays: Sequence[float] | None = None,
        patience: float = math.inf,
    ) -> None:
        """Create retries for the files of one source.

        Args:
            limit: functions that may fail before nothing is repeated any more.
            sleep: waits for a number of seconds; another function in tests.
            delays: seconds before the second and each further attempt; None for `DELAYS`.
            patience: seconds after which what had no answer in time is not repeated.
        """
        self._left = limit
        self._delays = DELAYS if delays is None else delays
        self._sleep = sleep
        self._patience = patience

    def __call__(self, read: Callable[[], T]) -> T:
        """Return what `read` returns.

        Raises:
            Exception: the last attempt failed, or an earlier one for a reason that does not pass.
        """
        started = time.monotonic()
        for delay in self._delays if self._left > 0 else ():
            try:
                return read()
            except Exception as error:
                silent = is_timeout(error) and time.monotonic() - started >= self._patience
                if silent or not is_transient(error):
                    raise
            self._sleep(delay)
        try:
            return read()
        except Exception as error:
            if is_transient(error):
                self._left -= 1
            raise
