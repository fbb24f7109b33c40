"""One call, from its arrival until its reply has gone: its place in the limiter, its memory, and what it waits for."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import deque
from typing import Any, TypeAlias

import grpc

from partedvae.serving.errors import EvictedError
from partedvae.serving.grpc.connections import disconnect
from partedvae.serving.grpc.errors import RpcError, to_status
from partedvae.serving.grpc.limiter import CallLimiter
from partedvae.serving.memory_budget import MemoryBudget
from partedvae.serving.request_memory import RequestMemory, request_memory

logger = logging.getLogger(__name__)

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

RETRY_AFTER = 1.0
"""Seconds after which a client whose call was evicted should retry."""
STATUS_SECONDS = 5.0
"""How long the status of an evicted call may take to be sent, before its connection is closed."""

TRANSIT_SECONDS = 1.0
"""How long a reply may be on its way before the call counts as waiting for its client: to end it, its connection must
be closed, with all other calls."""

_SHARED = "unix:"
"""How gRPC names the clients of its Unix socket."""
_numbers = itertools.count()
_evictions: set[asyncio.Task[None]] = set()
"""Calls that are being ended; the event loop keeps no reference to its tasks."""


class _EndedAsCancelled:
    """Raises CancelledError for errors of calls that have ended, which gRPC cancels too, but sometimes later."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, grpc.aio.BaseError) and not isinstance(error, (grpc.aio.AbortError, grpc.aio.UsageError)):
            raise asyncio.CancelledError from None


_ENDED_AS_CANCELLED = _EndedAsCancelled()  # Has no state, so that one is enough for all calls.


class Call:
    """A call. Used from the event loop's thread only, except for `evict` and what the limiter reads."""

    __slots__ = (
        "_budget",
        "_context",
        "_evicted",
        "_last_request",
        "_limiter",
        "_loop",
        "_reader",
        "_requests",
        "_task",
        "_waiting",
        "connection",
        "done",
        "is_stream",
        "reading_since",
        "sending_since",
        "watching_since",
    )

    def __init__(
        self, context: Context, limiter: CallLimiter[Call], budget: MemoryBudget, *, is_stream: bool = False
    ) -> None:
        """Create the call that gRPC has just announced, in its task.

        Args:
            context: gRPC's context of the call.
            limiter: limit of concurrent calls.
            budget: the memory of the process.
            is_stream: whether the client may send several requests.
        """
        self._context = context
        self._limiter = limiter
        self._budget = budget
        self._evicted = False
        self._requests: deque[RequestMemory] = deque()
        self._last_request: RequestMemory | None = None
        task = asyncio.current_task()
        assert task is not None, "gRPC runs each call in a task"
        self._task: asyncio.Task[Any] | None = task
        self._loop = task.get_loop()
        self._reader: asyncio.Task[Any] | None = None
        self._waiting: asyncio.Task[Any] | None = None
        self.is_stream = is_stream
        """Whether the client may send several requests."""
        self.connection = _connection_of(context)
        """The client's address and port, or what stands for them."""
        self.reading_since = 0.0
        """Time since when the next message is awaited, or its client had the last reply; 0 while none is awaited."""
        self.sending_since = 0.0
        """Time since when the client has not taken a reply; 0 while there is none."""
        self.watching_since = 0.0
        """Time since when the call only reports changes to its client; 0 for other calls."""
        self.done = False
        """Whether the call has ended, and its reply has gone."""
        # That of the context would be a reference cycle, which makes work for the garbage collector after each call.
        task.add_done_callback(self._on_done)

    def try_acquire(self) -> bool:
        """Ask the limiter for a place, which is free again when the call is done."""
        return self._limiter.try_acquire(self)

    @property
    def waits_since(self) -> float:
        """Time since when only the client can continue; 0 while the server has work to do."""
        if self.sending_since:
            return self.sending_since + TRANSIT_SECONDS
        return self.watching_since or self.idle_since

    @property
    def held(self) -> int:
        """Bytes of the memory budget that its requests hold."""
        return sum(memory.held for memory in self._requests)

    @property
    def idle_since(self) -> float:
        """Time since when the call has nothing to do until a message arrives; 0 if it has."""
        return 0.0 if self._requests else self.reading_since

    @property
    def holds_since(self) -> float:
        """Time since when gRPC may hold a part of a request or of a reply; 0 if it does not."""
        return self.sending_since or self.reading_since

    async def read(self) -> Any:
        """Return the next message as bytes, or `grpc.aio.EOF`.

        Raises:
            asyncio.CancelledError: the connection has ended, or the server has stopped.
        """
        self._reader = asyncio.current_task() if self.is_stream else self._task
        self.reading_since = time.monotonic()
        with _ENDED_AS_CANCELLED:
            raw = await self._context.read()
        self.reading_since = 0.0
        self._reader = None
        return raw

    def begin_request(self) -> RequestMemory:
        """Return the memory of a request that has arrived, in whose task the code that serves it finds it too."""
        memory = RequestMemory(self._budget, self.connection, self._last_request)
        if self.is_stream:
            self._last_request = memory
        self._requests.append(memory)
        request_memory.set(memory)
        return memory

    async def wait_for_message(self, memory: RequestMemory, size: int) -> None:
        """Wait until a message that has arrived has its memory, but not longer than the call lives.

        Raises:
            asyncio.CancelledError: the call has ended.
        """
        self._waiting = asyncio.current_task()
        try:
            await memory.wait_for_message(size)
        finally:
            self._waiting = None
        if self.done:  # At the same moment.
            memory.release()
            raise asyncio.CancelledError

    def begin_reply(self) -> None:
        """Record that the only reply is ready: the request is not needed any more."""
        self.sending_since = time.monotonic()
        for memory in self._requests:
            memory.release_message()

    async def write(self, reply: bytes) -> None:
        """Send a reply of a stream, and release the memory of its request: replies have the order of the requests.

        Raises:
            asyncio.CancelledError: the connection has ended, or the server has stopped.
        """
        self.sending_since = time.monotonic()
        with _ENDED_AS_CANCELLED:
            await self._context.write(reply)
        self.sending_since = 0.0
        if self._requests:
            self._requests.popleft().release()
        if self.reading_since:
            self.reading_since = time.monotonic()

    def evict(self, reason: str) -> bool:
        """End the call: with a status that lets the client try again, or if its reply blocks it, with its connection.

        Can be called from any thread.

        Must not cancel the task that reads: gRPC may still write into what it is reading.

        Returns:
            Whether the call was not ending already.
        """
        if self._evicted or self.done:
            return False
        self._evicted = True
        self._loop.call_soon_threadsafe(self._begin_end, to_status(EvictedError(reason, RETRY_AFTER)))
        return True

    async def abort(self, status: RpcError) -> None:
        """Send a status, unless there is one already; whatever the call's own task awaits of gRPC ends with it.

        Returns instead of raising gRPC's error, which gRPC raises by itself when the handler has returned: with its
        traceback it would refer to the frames of the handler, and they to the error.
        """
        if self._context.done():
            return
        self.sending_since = time.monotonic()
        try:
            await self._context.abort(status.code, status.details, status.trailing_metadata)
        except grpc.aio.AbortError as error:
            error.__traceback__ = None
        except grpc.aio.BaseError:
            pass  # The connection has ended, or the server has stopped.

    def _begin_end(self, status: RpcError) -> None:
        if not self.done:
            task = self._loop.create_task(self._end(status))
            _evictions.add(task)
            task.add_done_callback(_evictions.discard)

    async def _end(self, status: RpcError) -> None:
        if self.sending_since and not await self._reply_goes():
            self._disconnect()
            return
        if self.done:
            return
        timer = asyncio.get_running_loop().call_later(STATUS_SECONDS, self._disconnect)
        await self.abort(status)
        timer.cancel()
        # A task that awaits nothing of gRPC, but a change of health or a result, would not notice.
        if self._task is not None and self._task is not self._reader:
            self._task.cancel()

    async def _reply_goes(self) -> bool:
        """Return whether the client takes the reply that is being sent: it may have been ready just now."""
        latest = time.monotonic() + STATUS_SECONDS
        while self.sending_since and not self.done:
            left = min(self.sending_since + TRANSIT_SECONDS, latest) - time.monotonic()
            if left <= 0:
                return False
            await asyncio.sleep(min(left, TRANSIT_SECONDS / 100))
        return True

    def _disconnect(self) -> None:
        if self.done:
            return
        if self.connection.startswith(_SHARED):  # It has the calls of all clients.
            logger.warning("a client of the native front does not read the replies of its stream, which stays open")
        else:
            # Without the address, so that many of them are one kind of message, which the log limits.
            logger.warning("closing the connection of a client that does not read its replies")
            logger.debug("closing the connection of %s", self.connection)
            asyncio.get_running_loop().run_in_executor(None, disconnect, self.connection)

    def _on_done(self, _: asyncio.Task[Any]) -> None:
        self.done = True
        self._limiter.release_call(self)
        for memory in self._requests:
            memory.release()
        self._task = None
        if self._waiting is not None:
            self._waiting.cancel()


def _connection_of(context: Context) -> str:
    """Return a name of the client's connection.

    The calls of all clients of the native front arrive by one connection, without their addresses: each call counts as
    a client of its own, so that a single client does not use up the limit of all.
    """
    peer: str = context.peer()
    return f"{_SHARED}{next(_numbers)}" if peer.startswith(_SHARED) else peer
