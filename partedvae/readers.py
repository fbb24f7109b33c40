"""Threads in which the asynchronous client reads images, apart from asyncio's default executor, which is the user's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")

CALLS = 256
"""Calls that read at the same time, at most; a thread exists only while it has work, or is idle after some."""


class Readers:
    """Reads iterators in threads. Each stream has its own thread, since its source may block as long as it likes."""

    def __init__(self) -> None:
        """Prepare the threads; they start as they are needed."""
        self._calls = ThreadPoolExecutor(CALLS, thread_name_prefix="partedvae-read")

    def call(self, source: Iterator[T]) -> AsyncIterator[T]:
        """Yield the items of a call's source, read in a shared thread."""
        return _items(source, self._calls)

    async def stream(self, source: Iterator[T]) -> AsyncIterator[T]:
        """Yield the items of a stream's source, read in a thread of its own."""
        executor = ThreadPoolExecutor(1, thread_name_prefix="partedvae-read-stream")
        try:
            async for item in _items(source, executor):
                yield item
        finally:
            executor.shutdown(wait=False)

    def close(self) -> None:
        """End the threads as soon as their sources allow it."""
        self._calls.shutdown(wait=False, cancel_futures=True)


async def _items(source: Iterator[T], executor: Executor) -> AsyncIterator[T]:
    loop = asyncio.get_running_loop()
    # In a copy of the context, as in `asyncio.to_thread`, so that context variables have the caller's values.
    context = copy_context()

    def read() -> T | None:
        return context.run(next, source, None)

    while (item := await loop.run_in_executor(executor, read)) is not None:
        yield item
