"""One batch, and the requests that have rows in it: rows are put together, run, and split back exactly.

Requests that want different outputs share a batch, which computes the union: ONNX Runtime runs the whole graph whatever
is fetched, so that the union costs no more, while batches by outputs would be smaller.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

Columns: TypeAlias = tuple[NDArray[Any], ...]
"""Inputs or outputs of a graph: arrays with the same number of rows, one row an image."""
Run: TypeAlias = Callable[[Columns, tuple[str, ...]], Columns]
"""Runs the graph on inputs and returns the outputs of these names, in this order."""


class Request:
    """Rows of one caller, on their way through one batch or several."""

    __slots__ = ("_missing", "_parts", "columns", "future", "outputs", "patient", "rows", "run", "since", "taken")

    def __init__(self, run: Run, columns: Columns, outputs: tuple[str, ...], patient: bool) -> None:
        """Take what `Batcher.submit` was given."""
        self.run = run
        self.columns = columns
        self.outputs = outputs
        self.patient = patient
        self.rows = len(columns[0])
        self.taken = 0
        """Rows that are in batches already."""
        self.since = time.monotonic()
        self.future: asyncio.Future[Columns] = asyncio.get_running_loop().create_future()
        self._parts: dict[int, Columns] = {}
        self._missing = self.rows

    def receive(self, start: int, count: int, result: Columns | Exception) -> None:
        """Take the result of some rows; with the last of them the caller is answered."""
        if self.future.done():  # The caller has gone, or another part failed.
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
        """Take who is told when the results were handed out."""
        self._on_done = on_done
        self.pieces: list[tuple[Request, int, int]] = []
        """Request, its first row in this batch, number of rows."""
        self.outputs: tuple[str, ...] = ()
        self.rows = 0
        self.queue_seconds: list[float] = []
        self.seconds = 0.0
        """How long the session ran."""
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
        """Run the graph once; when that fails, once for each request, so that a bad one does not hurt the others."""
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
        """Give each request its own."""
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
            return self._chosen(piece[0], self._run([piece]))
        except Exception as error:
            return error

    def _split(self, results: Columns) -> list[Columns | Exception]:
        if len(self.pieces) == 1:
            return [results]
        split: list[Columns | Exception] = []
        offset = 0
        for request, _, count in self.pieces:
            own = self._chosen(request, results)
            split.append(tuple([column[offset : offset + count] for column in own]))
            offset += count
        return split

    def _chosen(self, request: Request, results: Columns) -> Columns:
        """Return the outputs that a request wants, of those that were computed."""
        if request.outputs == self.outputs:
            return results
        return tuple(results[self.outputs.index(name)] for name in request.outputs)
