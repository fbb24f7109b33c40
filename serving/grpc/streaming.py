"""Bidirectional streams: requests are processed concurrently, and replies are returned in the order of the requests.

At most `MAX_PENDING_CHUNKS` requests of a stream are read and not replied to. The next one is read only when a reply
has been written, so that a client that does not read its replies is stopped by gRPC's flow control.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeAlias, TypeVar

from partedvae.serving.errors import StoppingError

Request = TypeVar("Request")
Reply = TypeVar("Reply")

ChunkHandler: TypeAlias = Callable[[Request], Coroutine[Any, Any, Reply]]
"""Computes the reply to one request of a stream."""

MAX_PENDING_CHUNKS = 4
"""Requests of one stream that are read and not replied to: enough to keep the sessions busy while replies travel."""


class ChunkStream(Generic[Request, Reply]):
    """One stream of requests and its replies. Starts to read when it is created, in a running event loop."""

    def __init__(
        self,
        requests: AsyncIterator[Request],
        handler_for: Callable[[Request], Awaitable[ChunkHandler[Request, Reply]]],
    ) -> None:
        """Start to read requests.

        Args:
            requests: the requests of the stream; they end with the call, if not earlier.
            handler_for: returns the handler of all requests, given the first one.
        """
        self._requests = requests
        self._handler_for = handler_for
        self._free = asyncio.Semaphore(MAX_PENDING_CHUNKS)
        self._pending: asyncio.Queue[asyncio.Task[Reply] | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[Reply]] = set()
        self._stopping = False
        self._ended = False
        self._is_reading = False
        self._reader = asyncio.create_task(self._read())

    async def replies(self) -> AsyncGenerator[Reply, None]:
        """Yield the reply to each request, in order, until the requests end. The caller must close this iterator.

        Raises:
            StoppingError: `stop` was called; every request that had been read has its reply.
            Exception: the first error of a handler; the requests before it have their replies.
        """
        written = 0
        try:
            while (task := await self._pending.get()) is not None:
                reply = await task
                del task
                yield reply
                del reply
                written += 1
                self._free.release()
            if self._stopping and not self._ended:
                raise _stopped(written)
            await self._reader  # Raises what reading raised.
        finally:
            # The client has gone, or a request failed: stop reading, and cancel the requests that wait in a queue.
            self._stopping = True
            left: list[asyncio.Task[Any]] = [*self._tasks]
            if self._is_reading:
                # Not cancelled: gRPC may still write into what it is reading. It ends with the call.
                self._reader.add_done_callback(_forget_error)
            else:
                left.append(self._reader)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    def stop(self) -> None:
        """Stop reading; `replies` ends after the reply to the last request that was read."""
        self._stopping = True
        self._pending.put_nowait(None)

    async def _read(self) -> None:
        handler: ChunkHandler[Request, Reply] | None = None
        try:
            while True:
                await self._free.acquire()
                self._is_reading = True
                try:
                    request = await anext(self._requests)
                except StopAsyncIteration:
                    self._ended = True
                    return
                finally:
                    self._is_reading = False
                if self._stopping:
                    return
                if handler is None:
                    handler = await self._handler_for(request)
                task = asyncio.create_task(handler(request))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                task.add_done_callback(_forget_error)  # Nobody awaits it if the client has gone.
                self._pending.put_nowait(task)
                del request, task  # They would stay in memory until the next request has arrived.
        finally:
            self._pending.put_nowait(None)


def _forget_error(task: asyncio.Task[Any]) -> None:
    """Mark an error as retrieved, which asyncio would log otherwise."""
    if not task.cancelled():
        task.exception()


def _stopped(written: int) -> StoppingError:
    return StoppingError(
        f"the server is stopping; the first {written} requests of the stream have replies; send the rest again, "
        "another server may have replaced it"
    )
