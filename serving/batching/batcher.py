"""Micro-batching of one graph: rows of many requests become one session run, and each caller gets back its own."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from partedvae.serving.batching.admission import Admission
from partedvae.serving.batching.batch import Batch, Columns, Request, Run
from partedvae.serving.batching.scheduler import Slots

MIN_SHARE = 16
"""Rows below which a batch is not divided among idle slots: the overhead of a run would eat the gain."""
UNKNOWN_WAIT = 1.0
"""Seconds after which to try again, as long as no batch has told the rate."""
SHORTEST_WAIT, LONGEST_WAIT = 0.05, 60.0
"""Bounds of the estimate, in seconds."""
_SMOOTHING = 0.2
"""Weight of the last batch in the average rate."""


@dataclass(frozen=True, kw_only=True)
class BatchPolicy:
    """How requests are gathered."""

    max_batch_rows: int = 64
    """Most rows of one session run; requests with more are divided."""
    max_queue_rows: int = 4096
    """Rows that may wait for one graph of one model; see `partedvae.serving.batching.admission`."""
    max_delay: float = 0.0
    """Seconds that the first row of a batch may wait for more rows while a session is free; 0 sends what is there."""
    sessions: int = 1
    """Session runs under way at a time in this process. With a thread each they serve several cores best."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("max_batch_rows", "max_queue_rows", "sessions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be at least 1")
        if self.max_delay < 0:
            raise ValueError(f"max_delay is {self.max_delay} s, it must not be negative")


class BatchObserver(Protocol):
    """Who wants to know of batches, for metrics. Called on the event loop."""

    def batch_done(
        self,
        model: str,
        version: int,
        graph: str,
        rows: int,
        requests: int,
        queue_seconds: Sequence[float],
        inference_seconds: float,
    ) -> None:
        """Learn of a batch that was run; `queue_seconds` has an entry for each request that began with it."""

    def queue_rows(self, model: str, graph: str, rows: int) -> None:
        """Learn how many rows wait, each time that a batch was made up or a request was refused."""


class Batcher:
    """Gathers the requests for one graph of one model. For the event loop's thread alone."""

    def __init__(
        self,
        model: str,
        version: int,
        graph: str,
        policy: BatchPolicy,
        slots: Slots,
        observer: BatchObserver | None = None,
    ) -> None:
        """Take what to call itself in metrics, how to gather, where to run, and who wants to know."""
        self._identity = (model, version, graph)
        self._policy = policy
        self._slots = slots
        self._observer = observer
        self._admission = Admission(policy.max_queue_rows, self._seconds_until_room)
        self._waiting: OrderedDict[Request, None] = OrderedDict()
        self._rows_per_second = 0.0  # of one slot, averaged
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting_rows(self) -> int:
        """Rows that wait for a session."""
        return self._admission.rows

    async def submit(self, run: Run, columns: Columns, outputs: tuple[str, ...], *, wait: bool = False) -> Columns:
        """Run the graph on some rows, together with those of others.

        Args:
            run: runs the graph; the same for all requests. A request holds it, and with it the model, not the batcher.
            columns: the graph's inputs, one row at least; not to be written to until the result is there.
            outputs: names of the outputs to return.
            wait: wait for room in the queue rather than be refused.

        Returns:
            The outputs' own rows, in the order of the names. They may be views of a whole batch's.

        Raises:
            OverloadedError: there is no room in the queue, and `wait` is false.
            Exception: whatever the graph raised on these rows.
        """
        rows = len(columns[0])
        if wait:
            await self._admission.enter_patiently(rows)
        else:
            try:
                self._admission.enter(rows)
            except Exception:
                self._tell_queue()
                raise
        request = Request(run, columns, outputs, wait)
        self._waiting[request] = None
        self._slots.ask(self)
        try:
            return await request.future
        finally:
            # Only there when the caller gave up (deadline, cancellation) or another part of the request failed.
            if request in self._waiting:
                del self._waiting[request]
                self._admission.leave(rows - request.taken, patient=wait)
                self._tell_queue()

    def has_work(self) -> bool:
        """Tell whether a batch could be made up now."""
        return bool(self._waiting) and self._remaining_delay() <= 0

    def take(self, free_slots: int) -> Batch | None:
        """Make up the next batch of what waits; None when there is nothing, or more is waited for."""
        if not self._waiting:
            return None
        delay = self._remaining_delay()
        if delay > 0:
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(delay, self._delay_is_over)
            return None
        most = self._policy.max_batch_rows
        room = min(most, max(-(-self._admission.rows // free_slots), MIN_SHARE))
        batch = Batch(self._done)
        while room > 0 and self._waiting:
            request = next(iter(self._waiting))
            left = request.rows - request.taken
            # Whole where it can be: what is cut must be joined again. A large one gives way after each cut.
            if left > room and batch.pieces and request.rows <= most:
                break
            count = min(left, room)
            batch.add(request, request.taken, count)
            request.taken += count
            room -= count
            if count == left:
                del self._waiting[request]
            else:
                self._waiting.move_to_end(request)
            self._admission.leave(count, patient=request.patient)
        self._tell_queue()
        return batch

    def _done(self, batch: Batch) -> None:
        """Keep account of a batch that was run."""
        rate = batch.rows / max(batch.seconds, 1e-6)
        self._rows_per_second += (_SMOOTHING if self._rows_per_second else 1.0) * (rate - self._rows_per_second)
        if self._observer is not None:
            self._observer.batch_done(
                *self._identity, batch.rows, len(batch.pieces), batch.queue_seconds, batch.seconds
            )

    def _remaining_delay(self) -> float:
        """Return the seconds for which the oldest request is still to wait for others."""
        if not self._policy.max_delay or self._admission.rows >= self._policy.max_batch_rows:
            return 0.0
        return next(iter(self._waiting)).since + self._policy.max_delay - time.monotonic()

    def _delay_is_over(self) -> None:
        self._timer = None
        self._slots.ask(self)

    def _seconds_until_room(self) -> float:
        if not self._rows_per_second:
            return UNKNOWN_WAIT
        seconds = self._admission.rows / (self._rows_per_second * self._slots.count)
        return min(max(seconds, SHORTEST_WAIT), LONGEST_WAIT)

    def _tell_queue(self) -> None:
        if self._observer is not None:
            model, _, graph = self._identity
            self._observer.queue_rows(model, graph, self._admission.rows)
