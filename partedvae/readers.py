"""Threads in which the asynchronous client reads images, apart from asyncio's default executor, which is the user's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextvars import copy_context
from queue import SimpleQueue
from threading import Thread
from typing import ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")

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

    async def read(self, function: Callable[[], T]) -> T:
        """Return what a function returns, which is called in a shared thread."""
        # In a copy of the context, as in `asyncio.to_thread`, so that context variables have the caller's values.
        return await asyncio.get_running_loop().run_in_executor(self._calls, copy_context().run, function)

    async def stream(self, source: Iterator[T]) -> AsyncIterator[T]:
        """Yield the items of a stream's source, read in a thread of its own."""
        executor = _DaemonThread("partedvae-read-stream")
        try:
            async for item in _items(source, executor):
                yield item
        finally:
            executor.shutdown()

    def close(self) -> None:
        """End the threads as soon as their sources allow it."""
        self._calls.shutdown(wait=False, cancel_futures=True)


class _DaemonThread(Executor):
    """A thread that Python does not wait for at its exit, when the source of a cancelled stream still blocks."""

    def __init__(self, name: str) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self._work.put(work)
        return future

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = False) -> None:
        """End the thread after what was submitted; never waits."""
        self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            del work  # It refers to the images of the result.


async def _items(source: Iterator[T], executor: Executor) -> AsyncIterator[T]:
    loop = asyncio.get_running_loop()
    # In a copy of the context, as in `asyncio.to_thread`, so that context variables have the caller's values.
    context = copy_context()

    def read() -> T | None:
        return context.run(next, source, None)

    while (item := await loop.run_in_executor(executor, read)) is not None:
        yield item
