"""One batch: rows of several requests that are run together, and split again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np

from partedvae.serving.batching.request import Columns, Request

logger = logging.getLogger(__name__)


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
