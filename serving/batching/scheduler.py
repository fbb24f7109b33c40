"""Session runs under way: a few at a time for the whole process, given out in turn to the batchers that have work.

One place for all models and both graphs, because they share the processors. A batch is made up at the moment when a
slot is free, so that it holds all that came until then.

Single images come one by one, and sessions faster than the event loop would run each by itself, which costs more than
it need: for the run, and by taking the interpreter from the loop. So few rows are gathered a little. On an idle process
that means some turns of the loop, 30 microseconds in all; while another run is under way, until there are enough rows,
until that run ends, or until a bound that is short beside the time of a request.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

ENOUGH_ROWS = 8
"""Rows that are worth a run: for the networks here an image costs a CPU no less in larger batches."""
QUIET_TURNS = 3
"""Turns of the event loop without a new row after which an idle process waits for nothing more."""
LONGEST_GATHERING = 0.002
"""Seconds for which few rows wait while another run is under way."""


class Work(Protocol):
    """One batch."""

    def run(self) -> None:
        """Compute, in a slot's thread. Keeps errors as results and raises none."""

    def deliver(self) -> None:
        """Hand out the results, on the event loop."""


class Worker(Protocol):
    """Who has work to do at times; a batcher."""

    @property
    def waiting_rows(self) -> int:
        """Rows that could be in batches now."""

    def take(self, free_slots: int) -> Work | None:
        """Make up the next batch; `free_slots`, one at least, tells how many could be begun now."""

    def has_work(self) -> bool:
        """Tell whether another batch could be made up at once."""


class Slots:
    """A number of threads that run batches. Belongs to the event loop that runs when it is made."""

    def __init__(self, count: int) -> None:
        """Start no thread yet; the first batches do."""
        self.count = count
        self._loop = asyncio.get_running_loop()
        self._free = count
        self._line: deque[Worker] = deque()
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="partedvae-session")

    def ask(self, worker: Worker) -> None:
        """Put a worker in line for the next free slot, if it does not stand there."""
        if worker not in self._line:
            self._line.append(worker)
        self._consider()

    def close(self) -> None:
        """Begin nothing more; batches under way end by themselves."""
        self._line.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _consider(self) -> None:
        """Begin at the end of this turn of the loop, or when more has come."""
        if not self._free or not self._line or self._scheduled:
            return
        if self._free == self.count:
            self._scheduled = True
            self._loop.call_soon(self._gather, 0, QUIET_TURNS)
        elif self._rows() >= ENOUGH_ROWS:
            self._scheduled = True
            self._loop.call_soon(self._begin)
        elif self._timer is None:
            self._timer = self._loop.call_later(LONGEST_GATHERING, self._begin)

    def _gather(self, rows_before: int, turns: int) -> None:
        """Begin when there is enough to do, or nothing new for some turns of the loop."""
        rows = self._rows()
        turns = turns - 1 if rows == rows_before else QUIET_TURNS
        if 0 < rows < ENOUGH_ROWS and turns:
            self._loop.call_soon(self._gather, rows, turns)
        else:
            self._begin()

    def _rows(self) -> int:
        return sum(worker.waiting_rows for worker in self._line)

    def _begin(self) -> None:
        self._scheduled = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._free and self._line:
            worker = self._line.popleft()
            work = worker.take(self._free)
            if work is not None:
                self._free -= 1
                self._threads.submit(self._run, work)
            if worker.has_work():
                self._line.append(worker)

    def _run(self, work: Work) -> None:
        work.run()
        self._loop.call_soon_threadsafe(self._end, work)

    def _end(self, work: Work) -> None:
        self._free += 1
        if self._rows() >= ENOUGH_ROWS:
            self._begin()  # Before the results are handed out: the next batch is computed meanwhile.
        else:
            self._consider()
        work.deliver()
