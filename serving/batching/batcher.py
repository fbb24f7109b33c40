"""Micro-batching of one graph: rows of many requests become one session run, and each caller gets back its own rows.

Requests for different outputs share a batch, which computes the union: ONNX Runtime runs the whole graph whatever is
fetched, so that the union costs no more, while separate batches would be smaller.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from partedvae.serving.batching.admission import Admission
from partedvae.serving.batching.scheduler import BatchPolicy, SessionScheduler

logger = logging.getLogger(__name__)

Columns: TypeAlias = tuple[NDArray[Any], ...]
"""Inputs or outputs of a graph: arrays with the same number of rows, one row per image."""
Run: TypeAlias = Callable[[Columns, tuple[str, ...]], Columns]
"""Runs the graph on inputs and returns the named outputs, in this order."""


class BatchObserver(Protocol):
    """Receives measurements of batches, for metrics. Called on the event loop."""

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

    def queue_rows(self, model: str, graph: str, rows: int) -> None:
        """Record how many rows wait, whenever a batch is formed or a request is refused."""


class Request:
    """Rows of one caller, computed in one batch or several."""

    __slots__ = ("_missing", "_parts", "blocking", "columns", "dispatched", "future", "outputs", "rows", "run", "since")

    def __init__(self, run: Run, columns: Columns, outputs: tuple[str, ...], blocking: bool) -> None:
        """Create a request with the arguments of `Batcher.submit`."""
        self.run = run
        self.columns = columns
        self.outputs = outputs
        self.blocking = blocking
        self.rows = len(columns[0])
        self.dispatched = 0
        """Rows that are in batches already."""
        self.since = time.monotonic()
        self.future: asyncio.Future[Columns] = asyncio.get_running_loop().create_future()
        self._parts: dict[int, Columns] = {}
        self._missing = self.rows

    def receive(self, start: int, count: int, result: Columns | Exception) -> None:
        """Store the result of some rows; the last of them completes the request."""
        if self.future.done():  # The caller was cancelled, or another part failed.
            return
        if isinstance(result, Exception):
            self.future.set_exception(result)
        elif count == self.rows:
            self.future.set_result(result)
        else:
            self._parts[start] = result
            self._missing -= count
            if not self._missing:
                parts = [self._parts[key] for key in sorted(self._parts)]
                self.future.set_result(tuple(np.concatenate(column) for column in zip(*parts, strict=True)))


class Batch:
    """Rows that are run together."""

    __slots__ = ("_on_done", "_results", "outputs", "pieces", "queue_seconds", "rows", "seconds")

    def __init__(self, on_done: Callable[[Batch], None]) -> None:
        """Create an empty batch; `on_done` is called after its results are delivered."""
        self._on_done = on_done
        self.pieces: list[tuple[Request, int, int]] = []
        """Request, first row of the request in this batch, number of rows."""
        self.outputs: tuple[str, ...] = ()
        self.rows = 0
        self.queue_seconds: list[float] = []
        self.seconds = 0.0
        """Duration of the session run."""
        self._results: list[Columns | Exception] = []

    def add(self, request: Request, start: int, count: int) -> None:
        """Add rows of a request, and its outputs to those that are computed."""
        self.pieces.append((request, start, count))
        self.rows += count
        if request.outputs != self.outputs:
            self.outputs = tuple(dict.fromkeys(self.outputs + request.outputs))
        if start == 0:
            self.queue_seconds.append(time.monotonic() - request.since)

    def run(self) -> None:
        """Run the graph once, in a session's thread; if it fails, run it per request, to isolate the one that fails.

        Errors are kept as results, and none is raised.
        """
        started = time.perf_counter()
        try:
            self._results = self._split(self._run(self.pieces))
        except Exception as error:
            if len(self.pieces) == 1:
                self._results = [error]
            else:
                logger.warning("a batch of %d requests failed, running them one by one: %s", len(self.pieces), error)
                self._results = [self._run_alone(piece) for piece in self.pieces]
        self.seconds = time.perf_counter() - started

    def deliver(self) -> None:
        """Hand each request its own results, on the event loop."""
        for (request, start, count), result in zip(self.pieces, self._results, strict=True):
            request.receive(start, count, result)
        self._on_done(self)

    def _run(self, pieces: Sequence[tuple[Request, int, int]]) -> Columns:
        parts = [
            request.columns
            if count == request.rows
            else tuple(column[start : start + count] for column in request.columns)
            for request, start, count in pieces
        ]
        columns = parts[0] if len(parts) == 1 else tuple(np.concatenate(column) for column in zip(*parts, strict=True))
        return pieces[0][0].run(columns, self.outputs)

    def _run_alone(self, piece: tuple[Request, int, int]) -> Columns | Exception:
        try:
            return self._requested(piece[0], self._run([piece]))
        except Exception as error:
            return error

    def _split(self, results: Columns) -> list[Columns | Exception]:
        if len(self.pieces) == 1:
            return [results]
        split: list[Columns | Exception] = []
        offset = 0
        for request, _, count in self.pieces:
            own = self._requested(request, results)
            split.append(tuple([column[offset : offset + count] for column in own]))
            offset += count
        return split

    def _requested(self, request: Request, results: Columns) -> Columns:
        """Return the outputs that a request asked for, from those that were computed."""
        if request.outputs == self.outputs:
            return results
        return tuple(results[self.outputs.index(name)] for name in request.outputs)


class Batcher:
    """Batches the requests for one graph of one model. Must be used from the event loop's thread only."""

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
        self._identity = (model, version, graph)
        self._policy = policy
        self._scheduler = scheduler
        self._observer = observer
        self._admission = Admission(policy.max_queue_rows, self._retry_after)
        self._waiting: OrderedDict[Request, None] = OrderedDict()
        self._rows_per_second = 0.0  # of one session, moving average
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting_rows(self) -> int:
        """Rows that wait for a session."""
        return self._admission.rows

    async def submit(self, run: Run, columns: Columns, outputs: tuple[str, ...], *, blocking: bool = False) -> Columns:
        """Run the graph on some rows, in a batch with those of other requests.

        Args:
            run: runs the graph; the same for all requests. A request holds it, and with it the model; the batcher does
                not.
            columns: the graph's inputs, with at least one row; must not be written to before the result is returned.
            outputs: names of the outputs to return.
            blocking: wait for capacity in the queue instead of failing.

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
                self._admission.try_acquire(rows)
            except Exception:
                self._report_queue()
                raise
        request = Request(run, columns, outputs, blocking)
        self._waiting[request] = None
        self._scheduler.notify(self)
        try:
            return await request.future
        finally:
            # Still waiting only if the caller was cancelled (or timed out), or another part of the request failed.
            if request in self._waiting:
                del self._waiting[request]
                self._admission.release(rows - request.dispatched, blocking=blocking)
                self._report_queue()

    def has_work(self) -> bool:
        """Return whether a batch could be formed now."""
        return bool(self._waiting) and self._remaining_delay() <= 0

    def next_batch(self, free_sessions: int) -> Batch | None:
        """Form the next batch from the waiting rows; None if there are none, or the delay has not passed.

        Args:
            free_sessions: number of batches that could start now, at least one.
        """
        if not self._waiting:
            return None
        delay = self._remaining_delay()
        if delay > 0:
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(delay, self._delay_passed)
            return None
        max_rows = self._policy.max_batch_rows
        capacity = min(max_rows, max(-(-self._admission.rows // free_sessions), self._policy.min_split_rows))
        batch = Batch(self._batch_done)
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
            self._admission.release(count, blocking=request.blocking)
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

    def _remaining_delay(self) -> float:
        """Return the seconds that the oldest request still waits for others."""
        if not self._policy.max_delay or self._admission.rows >= self._policy.max_batch_rows:
            return 0.0
        return next(iter(self._waiting)).since + self._policy.max_delay - time.monotonic()

    def _delay_passed(self) -> None:
        self._timer = None
        self._scheduler.notify(self)

    def _retry_after(self) -> float:
        """Estimate the seconds until the waiting rows have been run."""
        if not self._rows_per_second:
            return self._policy.default_retry_after
        seconds = self._admission.rows / (self._rows_per_second * self._scheduler.sessions)
        return min(max(seconds, self._policy.min_retry_after), self._policy.max_retry_after)

    def _report_queue(self) -> None:
        if self._observer is not None:
            model, _, graph = self._identity
            self._observer.queue_rows(model, graph, self._admission.rows)
