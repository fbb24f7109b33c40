"""Streams of requests: answered in order, a few at a time, and not read any faster than answers are written.

A caller that does not read its answers keeps a few chunks in memory and no more: the next one is asked of gRPC only
when an answer has been written, and gRPC in turn stops the sender.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeAlias, TypeVar

from partedvae.serving.errors import StoppingError

Request = TypeVar("Request")
Reply = TypeVar("Reply")

Answer: TypeAlias = Callable[[Request], Coroutine[Any, Any, Reply]]
"""Answers one request."""

CHUNKS_IN_WORK = 4
"""Requests of one stream that are read and not yet answered: enough to keep the sessions busy while answers travel."""


class Stream(Generic[Request, Reply]):
    """One stream of requests and its answers. Begins to read when it is made, in a running event loop."""

    def __init__(
        self,
        requests: AsyncIterator[Request],
        begin: Callable[[Request], Awaitable[Answer[Request, Reply]]],
        write: Callable[[Reply], Awaitable[None]],
    ) -> None:
        """Take where requests come from, what makes of the first one that which answers all, and where answers go."""
        self._requests = requests
        self._begin = begin
        self._write = write
        self._room = asyncio.Semaphore(CHUNKS_IN_WORK)
        self._in_work: asyncio.Queue[asyncio.Task[Reply] | None] = asyncio.Queue()
        self._answers: set[asyncio.Task[Reply]] = set()
        self._stopping = False
        self._ended = False
        self._reader = asyncio.create_task(self._read())

    async def run(self) -> None:
        """Answer until the requests end.

        Raises:
            StoppingError: `stop` was called. What had been read was answered.
            Exception: whatever a request was answered with first; those before it were answered.
        """
        written = 0
        try:
            while (task := await self._in_work.get()) is not None:
                await self._write(await task)
                written += 1
                self._room.release()
            if self._stopping and not self._ended:
                raise _stopped(written)
            await self._reader  # Raises what reading raised.
        finally:
            # The caller has gone, or a request failed: nothing more is read, and what waits leaves its queue.
            left: list[asyncio.Task[Any]] = [self._reader, *self._answers]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    def stop(self) -> None:
        """Read no more; `run` ends when what was read has been answered."""
        self._stopping = True
        self._reader.cancel()

    async def _read(self) -> None:
        answer: Answer[Request, Reply] | None = None
        try:
            while True:
                await self._room.acquire()
                try:
                    request = await anext(self._requests)
                except StopAsyncIteration:
                    self._ended = True
                    return
                if answer is None:
                    answer = await self._begin(request)
                task = asyncio.create_task(answer(request))
                self._answers.add(task)
                task.add_done_callback(self._answers.discard)
                self._in_work.put_nowait(task)
        finally:
            self._in_work.put_nowait(None)


def _stopped(written: int) -> StoppingError:
    return StoppingError(
        f"the server stops; the first {written} requests of the stream are answered: send the rest again, "
        "another server may have taken its place"
    )
