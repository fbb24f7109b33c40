"""Rows of one caller, which wait for a batch, and their result."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from partedvae.serving.batching.scheduler import Queue
from partedvae.serving.inline_task import InlineTask, is_inline

Columns: TypeAlias = tuple[NDArray[Any], ...]
"""Inputs or outputs of a graph: arrays with the same number of rows, one row per image."""
Run: TypeAlias = Callable[[Columns, tuple[str, ...]], Columns]
"""Runs the graph on inputs and returns the named outputs, in this order."""


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

    def __init__(self, batcher: Queue, run: Run, columns: Columns, outputs: tuple[str, ...], blocking: bool) -> None:
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
