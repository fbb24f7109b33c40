"""Micro-batching of one graph: rows of many requests become one session run, and each caller gets back its own rows.

Requests for different outputs share a batch, which computes the union: ONNX Runtime runs the whole graph whatever is
fetched, so that the union costs no more, while separate batches would be smaller.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

from partedvae.serving.batching.admission import Admission
from partedvae.serving.batching.batch import Batch
from partedvae.serving.batching.request import Columns, Request, Run
from partedvae.serving.batching.scheduler import BatchPolicy, SessionScheduler


class BatchObserver(Protocol):
    """Receives measurements of batches, for metrics. Called from any thread."""

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
        """Record a batch that was run; `queue_seconds` has one entry per request whose first rows are in it."""

    def queue_rows(self, model: str, version: int, graph: str, rows: int) -> None:
        """Record how many rows wait, whenever a batch is formed or a request is refused."""


class Batcher:
    """Batches the requests for one graph of one model. Can be used from several threads."""

    def __init__(
        self,
        model: str,
        version: int,
        graph: str,
        policy: BatchPolicy,
        scheduler: SessionScheduler,
        observer: BatchObserver | None = None,
    ) -> None:
        """Create a batcher without requests.

        Args:
            model: name of the model, for metrics.
            version: version of the model, for metrics.
            graph: "encoder", "decoder" or "scorer", for metrics.
            policy: how requests are batched.
            scheduler: runs the batches.
            observer: receives measurements of batches.
        """
        self.scheduler = scheduler
        """Runs the batches."""
        self._identity = (model, version, graph)
        self._policy = policy
        self._observer = observer
        self._admission = Admission(policy.max_queue_rows, self._retry_after)
        self._waiting: OrderedDict[Request, None] = OrderedDict()
        self._rows_per_second = 0.0  # of one session, moving average

    @property
    def waiting_rows(self) -> int:
        """Rows that wait for a session."""
        return self._admission.rows

    async def submit(
        self, run: Run, columns: Columns, outputs: tuple[str, ...], *, blocking: bool = False, callers: int = 1
    ) -> Columns:
        """Run the graph on some rows, in a batch with those of other requests.

        Args:
            run: runs the graph; the same for all requests. A request holds it, and with it the model; the batcher does
                not.
            columns: the graph's inputs, with at least one row; must not be written to before the result is returned.
            outputs: names of the outputs to return.
            blocking: wait for capacity in the queue instead of failing.
            callers: callers whose rows these are, with as many each; they are admitted as if each came by itself.

        Returns:
            The rows of the outputs, in the order of the names. They may be views of a whole batch's.

        Raises:
            OverloadedError: the queue is full, and `blocking` is false.
            Exception: whatever the graph raised on these rows.
        """
        rows = len(columns[0])
        if blocking:
            await self._admission.acquire(rows)
        else:
            try:
                self._admission.try_acquire(rows, callers)
            except Exception:
                with self.scheduler.lock:
                    self._report_queue()
                raise
        request = Request(self, run, columns, outputs, blocking)
        try:
            return await request
        except asyncio.CancelledError:
            request.abandon()
            raise

    def add(self, request: Request) -> bool:
        """Queue a request, under the scheduler's lock; return whether it still has a caller."""
        if not request.is_done:
            request.is_queued = True
            self._waiting[request] = None
        return request.is_queued

    def remove(self, request: Request) -> None:
        """Withdraw the rows of a request that wait, under the scheduler's lock: nobody wants them any more."""
        if request in self._waiting:
            del self._waiting[request]
        elif request.is_queued:
            return
        self._admission.release(request.rows - request.dispatched, blocking=request.blocking)
        self._report_queue()

    def has_rows(self) -> bool:
        """Return whether rows wait."""
        return bool(self._waiting)

    def remaining_delay(self, now: float) -> float:
        """Return the seconds that the oldest request still waits for others."""
        if not self._policy.max_delay or not self._waiting or self._admission.rows >= self._policy.max_batch_rows:
            return 0.0
        return next(iter(self._waiting)).since + self._policy.max_delay - now

    def next_batch(self) -> Batch | None:
        """Form the next batch from the waiting rows, under the scheduler's lock; None if there are none."""
        if not self._waiting:
            return None
        max_rows = self._policy.max_batch_rows
        # The share of one session, also while the others are busy: they would find nothing when they become free.
        capacity = min(max_rows, max(-(-self._admission.rows // self._policy.sessions), self._policy.min_split_rows))
        batch = Batch(self._batch_done)
        dispatched = {False: 0, True: 0}
        while capacity > 0 and self._waiting:
            request = next(iter(self._waiting))
            left = request.rows - request.dispatched
            # Whole if possible, since parts must be joined again. A large request yields to others after each part.
            if left > capacity and batch.pieces and request.rows <= max_rows:
                break
            count = min(left, capacity)
            batch.add(request, request.dispatched, count)
            request.dispatched += count
            capacity -= count
            if count == left:
                del self._waiting[request]
            else:
                self._waiting.move_to_end(request)
            dispatched[request.blocking] += count
        for blocking, rows in dispatched.items():
            if rows:
                self._admission.release(rows, blocking=blocking)
        self._report_queue()
        return batch

    def _batch_done(self, batch: Batch) -> None:
        """Update the rate, and report the batch."""
        rate = batch.rows / max(batch.seconds, 1e-6)
        weight = self._policy.rate_smoothing if self._rows_per_second else 1.0
        self._rows_per_second += weight * (rate - self._rows_per_second)
        if self._observer is not None:
            self._observer.batch_done(
                *self._identity, batch.rows, len(batch.pieces), batch.queue_seconds, batch.seconds
            )

    def _retry_after(self) -> float:
        """Estimate the seconds until the waiting rows have been run."""
        if not self._rows_per_second:
            return self._policy.default_retry_after
        seconds = self._admission.rows / (self._rows_per_second * self.scheduler.sessions)
        return min(max(seconds, self._policy.min_retry_after), self._policy.max_retry_after)

    def _report_queue(self) -> None:
        if self._observer is not None:
            self._observer.queue_rows(*self._identity, self._admission.rows)
