"""Runs batches in a fixed number of session threads, shared by the batchers of all models and graphs in turn.

There is one scheduler per process, because all models share its processors. A batch is formed at the moment when a
session is free, so that it holds everything that arrived until then.

When single images arrive one by one, the sessions are faster than the event loop, and would run each image by itself.
That is expensive: for the run, and because it takes the interpreter from the event loop. So the scheduler lingers
while few rows wait: in an idle process for some turns of the event loop, 30 microseconds in total; while another run is
in progress, until there are enough rows, until that run ends, or until a bound that is short relative to the time of a
request.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from partedvae.serving.batching.batcher import Batch, Batcher


@dataclass(frozen=True, kw_only=True)
class BatchPolicy:
    """How requests are batched. The operator sets the first four; the defaults of the others were measured."""

    max_batch_rows: int = 64
    """Largest number of rows per session run; larger requests are split."""
    max_queue_rows: int = 4096
    """Rows that may wait for one graph of one model; see `partedvae.serving.batching.admission`."""
    max_delay: float = 0.0
    """Seconds that the first row of a batch may wait for more rows while a session is free; 0 disables the delay."""
    sessions: int = 1
    """Concurrent session runs in this process. With one thread per run they use several cores best."""

    enough_rows: int = 8
    """Waiting rows from which the scheduler does not linger: for the networks here, the CPU time per image is the same
    in larger batches."""
    linger_turns: int = 3
    """Turns of the event loop without a new row after which an idle process stops lingering: 30 microseconds in all."""
    max_linger: float = 0.002
    """Seconds that few rows wait while another run is in progress: short relative to the time of a request."""
    min_split_rows: int = 16
    """Smallest part when idle sessions share the waiting rows: below it, the overhead of a run exceeds the gain."""
    rate_smoothing: float = 0.2
    """Weight of the last batch in the moving average of rows per second, which the estimate of retry_after uses."""
    default_retry_after: float = 1.0
    """Seconds after which a refused caller should retry, before the first batch has given a rate."""
    min_retry_after: float = 0.05
    """Lower bound of the estimate, in seconds."""
    max_retry_after: float = 60.0
    """Upper bound of the estimate, in seconds."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("max_batch_rows", "max_queue_rows", "sessions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be at least 1")
        if self.max_delay < 0:
            raise ValueError(f"max_delay is {self.max_delay} s, it must not be negative")


class SessionScheduler:
    """Threads that run batches. Belongs to the event loop that is running when it is created."""

    def __init__(self, policy: BatchPolicy) -> None:
        """Create the scheduler; its threads start with the first batches."""
        self.sessions = policy.sessions
        """Concurrent session runs."""
        self._enough_rows = policy.enough_rows
        self._linger_turns = policy.linger_turns
        self._max_linger = policy.max_linger
        self._loop = asyncio.get_running_loop()
        self._free = policy.sessions
        self._queue: deque[Batcher] = deque()
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._threads = ThreadPoolExecutor(policy.sessions, thread_name_prefix="partedvae-session")

    def notify(self, batcher: Batcher) -> None:
        """Queue a batcher that has rows for the next free session, unless it is queued already."""
        if batcher not in self._queue:
            self._queue.append(batcher)
        self._schedule()

    def close(self) -> None:
        """Start no more batches; running ones end by themselves."""
        self._queue.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _schedule(self) -> None:
        """Dispatch at the end of this turn of the event loop, or when more rows have arrived."""
        if not self._free or not self._queue or self._scheduled:
            return
        if self._free == self.sessions:
            self._scheduled = True
            self._loop.call_soon(self._linger, 0, self._linger_turns)
        elif self._waiting_rows() >= self._enough_rows:
            self._scheduled = True
            self._loop.call_soon(self._dispatch)
        elif self._timer is None:
            self._timer = self._loop.call_later(self._max_linger, self._dispatch)

    def _linger(self, rows_before: int, turns: int) -> None:
        """Dispatch when there are enough rows, or no new ones for some turns of the event loop."""
        rows = self._waiting_rows()
        turns = turns - 1 if rows == rows_before else self._linger_turns
        if 0 < rows < self._enough_rows and turns:
            self._loop.call_soon(self._linger, rows, turns)
        else:
            self._dispatch()

    def _waiting_rows(self) -> int:
        return sum(batcher.waiting_rows for batcher in self._queue)

    def _dispatch(self) -> None:
        self._scheduled = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._free and self._queue:
            batcher = self._queue.popleft()
            batch = batcher.next_batch(self._free)
            if batch is not None:
                self._free -= 1
                self._threads.submit(self._run, batch)
            if batcher.has_work():
                self._queue.append(batcher)

    def _run(self, batch: Batch) -> None:
        batch.run()
        self._loop.call_soon_threadsafe(self._finish, batch)

    def _finish(self, batch: Batch) -> None:
        self._free += 1
        if self._waiting_rows() >= self._enough_rows:
            self._dispatch()  # Before the results are delivered, so that the next batch runs meanwhile.
        else:
            self._schedule()
        batch.deliver()
