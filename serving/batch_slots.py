"""Session runs under way: a few at a time for the whole process, given out in turn to the batchers that have work.

One place for all models and both graphs, because they share the processors. A batch is made up at the moment when a
slot is free, so that it holds all that came until then.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol


class Work(Protocol):
    """One batch."""

    def run(self) -> None:
        """Compute, in a slot's thread. Keeps errors as results and raises none."""

    def deliver(self) -> None:
        """Hand out the results, on the event loop."""


class Worker(Protocol):
    """Who has work to do at times; a batcher."""

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
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="partedvae-session")

    def ask(self, worker: Worker) -> None:
        """Put a worker in line for the next free slot, if it does not stand there."""
        if worker not in self._line:
            self._line.append(worker)
        if self._free and not self._scheduled:
            self._scheduled = True
            # At the end of this turn of the loop: requests that arrive together make one batch.
            self._loop.call_soon(self._begin)

    def close(self) -> None:
        """Begin nothing more; batches under way end by themselves."""
        self._line.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _begin(self) -> None:
        self._scheduled = False
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
        self._begin()  # Before the results are handed out: the next batch is computed meanwhile.
        work.deliver()
