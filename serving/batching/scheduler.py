"""Runs batches in a fixed number of session threads, shared by the batchers of all models and graphs in turn.

There is one scheduler per process, because all models share its processors. A session that is free takes the next
batch by itself, so that a batch holds everything that arrived until then.

When single images arrive one by one on an event loop, the sessions are faster than it, and would run each image by
itself. That is expensive: for the run, and because it takes the interpreter from the event loop. So few rows wait: in
an idle process for some turns of the event loop, 30 microseconds in total; while another run is in progress, until
there are enough rows, until that run ends, or until a bound that is short relative to the time of a request.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from partedvae.serving.batching.batch import Batch
    from partedvae.serving.batching.request import Request

logger = logging.getLogger(__name__)


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
    """Smallest part when sessions share the waiting rows: below it, the overhead of a run exceeds the gain."""
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


class Queue(Protocol):
    """Where the requests for one graph wait. All of it is used under the scheduler's lock."""

    scheduler: SessionScheduler
    """Runs the batches."""

    @property
    def waiting_rows(self) -> int:
        """Rows that wait for a session."""

    def add(self, request: Request) -> bool:
        """Queue a request; return whether it still has a caller."""

    def remove(self, request: Request) -> None:
        """Withdraw the rows of a request that wait."""

    def has_rows(self) -> bool:
        """Return whether rows wait."""

    def remaining_delay(self, now: float) -> float:
        """Return the seconds that the oldest request still waits for others."""

    def next_batch(self) -> Batch | None:
        """Form the next batch from the waiting rows; None if there are none."""


class SessionScheduler:
    """Threads that take batches and run them. Can be used from several threads."""

    def __init__(self, policy: BatchPolicy) -> None:
        """Create the scheduler; its threads start with the first requests."""
        self.sessions = policy.sessions
        """Concurrent session runs."""
        self.lock = threading.Lock()
        """Protects the queues of all batchers."""
        self._enough_rows = policy.enough_rows
        self._linger_turns = policy.linger_turns
        self._max_linger = policy.max_linger
        self._changed = threading.Condition(self.lock)
        self._queue: deque[Queue] = deque()
        self._since = 0.0
        self._running = 0
        self._idle = 0
        self._lingering = 0
        self._is_closed = False
        self._threads: list[threading.Thread] = []
        self._is_collecting = False

    def submit(self, requests: Sequence[Request]) -> None:
        """Queue requests that were received together, and run them as soon as a session is free."""
        with self.lock:
            self._add(requests)
            self._notify()

    def submit_from_event_loop(self, request: Request, loop: asyncio.AbstractEventLoop) -> None:
        """Queue a request; an idle process waits some turns of the event loop for more of them."""
        with self.lock:
            self._add([request])
            if self._running or self._waiting_rows() >= self._enough_rows:
                self._notify()
            elif not self._is_collecting:
                self._is_collecting = True
                loop.call_soon(self._collect, loop, 0, self._linger_turns)

    def close(self) -> None:
        """Start no more batches; running ones end by themselves."""
        with self.lock:
            self._is_closed = True
            self._queue.clear()
            self._changed.notify_all()

    def _add(self, requests: Sequence[Request]) -> None:
        if not self._threads and not self._is_closed:
            for number in range(self.sessions):
                thread = threading.Thread(target=self._serve, name=f"partedvae-session_{number}", daemon=True)
                self._threads.append(thread)
                thread.start()
        if not self._queue:
            self._since = time.monotonic()
        for request in requests:
            batcher = request.batcher
            if batcher.add(request) and batcher not in self._queue:
                self._queue.append(batcher)

    def _collect(self, loop: asyncio.AbstractEventLoop, rows_before: int, turns: int) -> None:
        """Wake a session when there are enough rows, or no new ones for some turns of the event loop."""
        with self.lock:
            rows = self._waiting_rows()
            turns = turns - 1 if rows == rows_before else self._linger_turns
            if 0 < rows < self._enough_rows and turns and not self._running:
                loop.call_soon(self._collect, loop, rows, turns)
                return
            self._is_collecting = False
            self._notify()

    def _notify(self) -> None:
        """Wake a session; where few rows must wait, one that watches the time."""
        if self._queue and not (self._running and self._lingering and self._waiting_rows() < self._enough_rows):
            self._changed.notify()

    def _serve(self) -> None:
        """Take and run batches until the scheduler is closed."""
        while (batch := self._next_batch()) is not None:
            batch.run()
            with self.lock:
                self._running -= 1
                requests = batch.collect()
                if self._queue and self._idle:
                    self._changed.notify()  # The next batch runs while the results of this one are delivered.
            try:
                batch.deliver(requests)
            except Exception:  # The session must go on.
                logger.exception("the results of a batch could not be delivered")
            del batch, requests  # Their arrays would stay in memory until the next batch has run.

    def _next_batch(self) -> Batch | None:
        """Wait for rows, and form a batch; None when the scheduler is closed."""
        with self.lock:
            while not self._is_closed:
                delay = self._delay()
                if delay is None:
                    self._idle += 1
                    self._changed.wait()
                    self._idle -= 1
                elif delay > 0:
                    self._lingering += 1
                    self._changed.wait(delay)
                    self._lingering -= 1
                else:
                    batcher = self._queue.popleft()
                    batch = batcher.next_batch()
                    if batcher.has_rows():
                        self._queue.append(batcher)
                        self._since = time.monotonic()
                    if batch is not None:
                        self._running += 1
                        if self._queue and self._idle:
                            self._changed.notify()
                        return batch
        return None

    def _delay(self) -> float | None:
        """Return the seconds that the waiting rows may still wait for others; None until a session is woken."""
        if not self._queue:
            return None
        now = time.monotonic()
        if self._waiting_rows() < self._enough_rows:
            if self._is_collecting and not self._running:
                return None
            lingered = self._since + self._max_linger - now
            if self._running and lingered > 0:
                return lingered
        delays = [batcher.remaining_delay(now) for batcher in self._queue]
        shortest = min(delays)
        if shortest <= 0:
            self._queue.rotate(-next(number for number, delay in enumerate(delays) if delay <= 0))
        return shortest

    def _waiting_rows(self) -> int:
        return sum(batcher.waiting_rows for batcher in self._queue)
