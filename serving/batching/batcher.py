"""Micro-batching of one graph: rows of many requests become one session run, and each caller gets back its own rows.

Requests for different outputs share a batch, which computes the union: ONNX Runtime runs the whole graph whatever is
fetched, so that the union costs no more, while separate batches would be smaller.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from partedvae.serving.batching.admission import Admission
from partedvae.serving.batching.scheduler import BatchPolicy, SessionScheduler
from partedvae.serving.inline_task import InlineTask, is_inline

logger = logging.getLogger(__name__)

Columns: TypeAlias = tuple[NDArray[Any], ...]
"""Inputs or outputs of a graph: arrays with the same number of rows, one row per image."""
Run: TypeAlias = Callable[[Columns, tuple[str, ...]], Columns]
"""Runs the graph on inputs and returns the named outputs, in this order."""


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

    def queue_rows(self, model: str, graph: str, rows: int) -> None:
        """Record how many rows wait, whenever a batch is formed or a request is refused."""


class Request:
    """Rows of one caller, computed in one batch or several. Its result is that of `await request`."""

    __slots__ = (
        "_future",
        "_missing",
        "_parts",
        "batcher",
        "blocking",
        "columns",
        "dispatched",
        "is_done",
        "is_queued",
        "outcome",
        "outputs",
        "rows",
        "run",
        "since",
        "task",
    )

    def __init__(self, batcher: Batcher, run: Run, columns: Columns, outputs: tuple[str, ...], blocking: bool) -> None:
        """Create a request with the arguments of `Batcher.submit`."""
        self.batcher = batcher
        self.run = run
        self.columns = columns
        self.outputs = outputs
        self.blocking = blocking
        self.rows = len(columns[0])
        self.dispatched = 0
        """Rows that are in batches already."""
        self.since = time.monotonic()
        self.is_queued = False
        """Whether its rows wait, or are in batches."""
        self.is_done = False
        """Whether the outcome is known, or nobody waits for it."""
        self.outcome: Columns | Exception
        self.task: InlineTask | None = None
        """The task that waits, if it has no event loop."""
        self._future: asyncio.Future[Columns] | None = None
        self._parts: dict[int, Columns] | None = None
        self._missing = self.rows

    def __await__(self) -> Generator[Any, Any, Columns]:
        """Queue the rows, and wait for their result."""
        if is_inline():
            result: Columns = yield self  # The task that runs the coroutine starts the request.
            return result
        loop = asyncio.get_running_loop()
        self._future = loop.create_future()
        self.batcher.scheduler.submit_from_event_loop(self, loop)
        return (yield from self._future)

    def start(self) -> None:
        """Queue the rows of a task without an event loop; see `partedvae.serving.inline_task.Awaited`."""
        self.batcher.scheduler.submit([self])

    def abandon(self) -> bool:
        """Withdraw the rows that wait; see `partedvae.serving.inline_task.Awaited`."""
        with self.batcher.scheduler.lock:
            if self.is_done:
                return False
            self.is_done = True
            self.batcher.remove(self)
        return True

    def receive(self, start: int, count: int, result: Columns | Exception) -> bool:
        """Store the result of some rows, under the scheduler's lock; return whether the outcome is known with it."""
        if self.is_done:  # The caller was cancelled, or another part failed.
            return False
        if isinstance(result, Exception):
            self.batcher.remove(self)
        elif count < self.rows:
            parts = self._parts = self._parts or {}
            parts[start] = result
            self._missing -= count
            if self._missing:
                return False
            in_order = [parts[key] for key in sorted(parts)]
            result = tuple(np.concatenate(column) for column in zip(*in_order, strict=True))
        self.is_done = True
        self.outcome = result
        return True

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop of the caller; None if it has none."""
        return None if self._future is None else self._future.get_loop()

    def set_result(self) -> None:
        """Hand the outcome to the caller, on its event loop."""
        future, outcome = self._future, self.outcome
        if future is None or future.done():
            return
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


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

    def collect(self) -> list[Request]:
        """Return the requests whose outcome is known with this batch. Call it under the scheduler's lock."""
        return [
            request
            for (request, start, count), result in zip(self.pieces, self._results, strict=True)
            if request.receive(start, count, result)
        ]

    def deliver(self, requests: Sequence[Request]) -> None:
        """Hand each request its outcome: on the callers' event loop, all at once, or in this thread."""
        waiting: dict[asyncio.AbstractEventLoop, list[Request]] = {}
        inline = []
        for request in requests:
            loop = request.loop
            if loop is None:
                inline.append(request)
            else:
                waiting.setdefault(loop, []).append(request)
        for loop, on_loop in waiting.items():
            with suppress(RuntimeError):  # The event loop was closed: nobody waits.
                loop.call_soon_threadsafe(_set_results, on_loop)
        for request in inline:
            if request.task is not None:
                request.task.resume(request.outcome)
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


def _set_results(requests: Sequence[Request]) -> None:
    for request in requests:
        request.set_result()


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
            model, _, graph = self._identity
            self._observer.queue_rows(model, graph, self._admission.rows)
