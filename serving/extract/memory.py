"""The memory that an extraction uses beside its model: the same whatever the number of processors.

It has three parts, which are for one extraction per process:
- `BATCHES`: images at the model's size and their results, from the start of a job until its rows were taken;
- `DECODING`: what is decoded of files, until the image has the model's size;
- `RUNS`: layers of the graphs that run.
What is read of URLs has a fourth, `partedvae.serving.extract.sources.remote.BYTES_IN_FLIGHT`: reads beyond it are not
begun instead of waiting.

A thread that holds memory of one part waits for a later one only, so that each gets what it waits for in the end.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

MIB = 1 << 20

BATCHES = 64 * MIB


class BlockingMemoryPool:
    """Bytes that threads reserve, and wait for in the order in which they ask."""

    def __init__(self, limit: int) -> None:
        """Create a pool of `limit` bytes, none of which is reserved."""
        self.limit = limit
        self.reserved = 0
        """Bytes that are reserved; above the limit only while one reservation has them all."""
        self._lock = threading.Lock()
        self._waiting: deque[tuple[int, threading.Event]] = deque()

    @contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        """Reserve bytes within the block, as soon as they are there; more than the limit when nothing else is."""
        self._acquire(size)
        try:
            yield
        finally:
            self._release(size)

    def _acquire(self, size: int) -> None:
        with self._lock:
            if not self._waiting and self._fits(size):
                self.reserved += size
                return
            admitted = threading.Event()
            self._waiting.append((size, admitted))
        admitted.wait()

    def _release(self, size: int) -> None:
        with self._lock:
            self.reserved -= size
            while self._waiting and self._fits(self._waiting[0][0]):
                next_size, admitted = self._waiting.popleft()
                self.reserved += next_size
                admitted.set()

    def _fits(self, size: int) -> bool:
        return not self.reserved or self.reserved + size <= self.limit


DECODING = BlockingMemoryPool(232 * MIB)
"""Two JPEG files of 12 million pixels."""
RUNS = BlockingMemoryPool(80 * MIB)
"""Encoder and scorer run one after the other, but each keeps what its largest runs needed."""
