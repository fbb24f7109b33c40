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
from collections import OrderedDict
from collections.abc import Callable

from partedvae.serving.errors import QueueFullError

SMALL = 64
"""Callers with at most this part of the limit are small."""


class Admission:
    """Counts the rows that wait. Must be used from the event loop's thread only."""

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

    def try_acquire(self, rows: int) -> None:
        """Admit a non-blocking caller.

        Raises:
            QueueFullError: there is no capacity.
        """
        most = 2 * self._limit if rows <= self._limit // SMALL else self._limit
        if self.rows >= most:
            raise QueueFullError(self.rows, self._limit, self._retry_after())
        self.rows += rows

    async def acquire(self, rows: int) -> None:
        """Admit a blocking caller when there is capacity; first come, first served."""
        if self._waiters or self._blocking_rows >= self._blocking_limit:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters[waiter] = rows
            try:
                await waiter
            except asyncio.CancelledError:
                self._waiters.pop(waiter, None)
                if not waiter.cancelled():  # It was admitted at the same moment.
                    self.release(rows, blocking=True)
                raise
        else:
            self._admit(rows)

    def release(self, rows: int, *, blocking: bool) -> None:
        """Subtract rows that no longer wait: their batch starts, or their caller was cancelled.

        Args:
            rows: how many.
            blocking: whether they were admitted by `acquire` rather than `try_acquire`.
        """
        self.rows -= rows
        if blocking:
            self._blocking_rows -= rows
            while self._waiters and self._blocking_rows < self._blocking_limit:
                waiter, next_rows = self._waiters.popitem(last=False)
                if not waiter.cancelled():  # Its caller was cancelled, but has not run since.
                    self._admit(next_rows)
                    waiter.set_result(None)

    def _admit(self, rows: int) -> None:
        self.rows += rows
        self._blocking_rows += rows
