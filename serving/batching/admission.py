"""Admission by rows: how many may wait, who is refused, and who waits for room.

A caller is let in while fewer than `limit` rows wait, whatever its own size: large requests and small ones have the
same chance, and what waits is bounded by the limit and one request more. Patient callers (streams) are never refused;
they stand in line, and fill at most half of the limit, so that those who cannot wait find room beside them. The other
way round, their half is theirs even while the impatient keep the whole full: neither can shut out the other.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from partedvae.serving.errors import OverloadedError


class Admission:
    """Counts the rows that wait. For the event loop's thread alone."""

    def __init__(self, limit: int, retry_after: Callable[[], float]) -> None:
        """Take the most rows that may wait, and what estimates the seconds until there is room."""
        self.rows = 0
        """Rows that wait now."""
        self._limit = limit
        self._retry_after = retry_after
        self._patient_rows = 0
        self._patient_limit = max(1, limit // 2)
        self._line: OrderedDict[asyncio.Future[None], int] = OrderedDict()

    def enter(self, rows: int) -> None:
        """Let a caller in that cannot wait.

        Raises:
            OverloadedError: there is no room.
        """
        if self.rows >= self._limit:
            raise OverloadedError(self.rows, self._limit, self._retry_after())
        self.rows += rows

    async def enter_patiently(self, rows: int) -> None:
        """Let a caller in when there is room for the patient; first come, first served."""
        if self._line or self._patient_rows >= self._patient_limit:
            turn = asyncio.get_running_loop().create_future()
            self._line[turn] = rows
            try:
                await turn
            except asyncio.CancelledError:
                self._line.pop(turn, None)
                if not turn.cancelled():  # Its turn had come in the same moment.
                    self.leave(rows, patient=True)
                raise
        else:
            self._let_in(rows)

    def leave(self, rows: int, *, patient: bool) -> None:
        """Take rows out of the count: they are begun, or their caller has gone."""
        self.rows -= rows
        if patient:
            self._patient_rows -= rows
            while self._line and self._patient_rows < self._patient_limit:
                turn, next_rows = self._line.popitem(last=False)
                if not turn.cancelled():  # Its caller has gone, and has not been told yet.
                    self._let_in(next_rows)
                    turn.set_result(None)

    def _let_in(self, rows: int) -> None:
        self.rows += rows
        self._patient_rows += rows
