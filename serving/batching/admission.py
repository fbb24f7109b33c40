"""Admission by rows: how many rows may wait, when a caller is refused, and when it waits for capacity.

A caller is admitted while fewer than `limit` rows wait, whatever its own size: large and small requests have the same
chance, and at most the limit and one request more are waiting. Small ones are admitted up to twice the limit, so that a
few callers with large requests, which are run in turn with small ones, do not shut them out. Blocking callers (streams)
wait for capacity and may use at most half of it, so that non-blocking callers find capacity beside them. In turn, that
half stays available to blocking callers while non-blocking ones fill the whole queue: neither kind can starve the
other.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable

from partedvae.serving.errors import QueueFullError
from partedvae.serving.inline_task import on_event_loop

SMALL = 64
"""Callers with at most this part of the limit are small."""


class Admission:
    """Counts the rows that wait. Thread-safe."""

    def __init__(self, limit: int, retry_after: Callable[[], float]) -> None:
        """Start with no rows.

        Args:
            limit: number of waiting rows from which non-blocking callers are refused.
            retry_after: estimates the seconds until there is capacity, for the error.
        """
        self.rows = 0
        """Rows that are waiting."""
        self._limit = limit
        self._retry_after = retry_after
        self._blocking_rows = 0
        self._blocking_limit = max(1, limit // 2)
        self._waiters: OrderedDict[asyncio.Future[None], int] = OrderedDict()
        self._lock = threading.Lock()

    def try_acquire(self, rows: int, callers: int = 1) -> None:
        """Admit a non-blocking caller, or several with as many rows each if all of them would be admitted.

        Args:
            rows: rows of all of them.
            callers: how many they are.

        Raises:
            QueueFullError: there is no capacity.
        """
        each = rows // callers
        most = 2 * self._limit if each <= self._limit // SMALL else self._limit
        with self._lock:
            if self.rows + rows - each < most:
                self.rows += rows
                return
        raise QueueFullError(self.rows, self._limit, self._retry_after())

    async def acquire(self, rows: int) -> None:
        """Admit a blocking caller when there is capacity; first come, first served."""
        with self._lock:
            if self._has_capacity():
                self._admit(rows)
                return
        await on_event_loop()
        waiter = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._has_capacity():  # Since the first look.
                self._admit(rows)
                return
            self._waiters[waiter] = rows
        try:
            await waiter
        except asyncio.CancelledError:
            with self._lock:
                is_waiting = self._waiters.pop(waiter, None) is not None
            if not is_waiting and not waiter.cancelled():  # It was admitted at the same moment.
                self.release(rows, blocking=True)
            raise

    def release(self, rows: int, *, blocking: bool) -> None:
        """Subtract rows that no longer wait: their batch starts, or their caller was cancelled.

        Args:
            rows: how many.
            blocking: whether they were admitted by `acquire` rather than `try_acquire`.
        """
        with self._lock:
            self.rows -= rows
            if not blocking:
                return
            self._blocking_rows -= rows
            while self._waiters and self._blocking_rows < self._blocking_limit:
                waiter, next_rows = self._waiters.popitem(last=False)
                self._admit(next_rows)
                waiter.get_loop().call_soon_threadsafe(self._wake, waiter, next_rows)

    def _has_capacity(self) -> bool:
        return not self._waiters and self._blocking_rows < self._blocking_limit

    def _admit(self, rows: int) -> None:
        self.rows += rows
        self._blocking_rows += rows

    def _wake(self, waiter: asyncio.Future[None], rows: int) -> None:
        """Tell a caller that it was admitted, unless it was cancelled meanwhile."""
        if waiter.cancelled():
            self.release(rows, blocking=True)
        else:
            waiter.set_result(None)
