"""Calls of the asynchronous client, with tasks."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from partedvae import forks
from partedvae.async_coalescer import AsyncCoalescer
from partedvae.backoff import Backoff
from partedvae.channel import Metadata
from partedvae.coalescing import is_inline, pending_call
from partedvae.connection import Connection, ConnectionSettings
from partedvae.errors import PartedVAEError, deadline_error
from partedvae.image_calls import ImageCall
from partedvae.image_chunks import chunks
from partedvae.image_items import ImageInput
from partedvae.packing import Packing
from partedvae.readers import Readers
from partedvae.results import FeatureChunk
from partedvae.streams import FeatureStream
from partedvae.transport import IN_FLIGHT
from partedvae.v1.service_pb2 import StreamFeaturesRequest
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub

if TYPE_CHECKING:
    from partedvae.v1.service_pb2_grpc import PartedVAEServiceAsyncStub

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
Result = TypeVar("Result")
AsyncMethod: TypeAlias = "Callable[[PartedVAEServiceAsyncStub], grpc.aio.UnaryUnaryMultiCallable[Request, Response]]"
"""Selects a method of the service, because each call may go through another channel."""

REFUSAL_SECONDS = 0.5
"""Maximum time in which a stream waits for its first response before it sends further messages."""


class _LoopConnection:
    """Channels and threads of one event loop: those of grpc.aio belong to the loop that is running when they are made.

    Must be created in that loop.
    """

    def __init__(
        self, open_channel: Callable[[], grpc.aio.Channel], count: int, coalescer: AsyncCoalescer | None
    ) -> None:
        self.coalescer = coalescer
        self.process = os.getpid()
        self.channels = [open_channel() for _ in range(count)]
        self.stubs = itertools.cycle([PartedVAEServiceStub(channel) for channel in self.channels])
        self.readers = Readers()

    async def close(self) -> None:
        self.readers.close()
        if self.coalescer is not None:
            self.coalescer.close()
        for channel in self.channels:
            await channel.close()
        forks.gate.closed()


class AsyncTransport(Connection):
    """Channels to one server, for each event loop its own; failed calls raise `PartedVAEError`."""

    def __init__(self, settings: ConnectionSettings) -> None:
        """Prepare a connection; the errors are those of `Connection`."""
        super().__init__(settings)
        self._connections: dict[asyncio.AbstractEventLoop, _LoopConnection] = {}
        forks.gate.watch(self)

    def before_fork(self) -> bool:
        """Drop the connections of closed event loops, which ends gRPC's thread; return whether others remain."""
        with self._lock:
            self._drop_closed()
            return bool(self._connections)

    def _connection(self) -> _LoopConnection:
        """Return the connection of the running event loop in this process."""
        loop = asyncio.get_running_loop()
        with self._lock:
            self._check_open()
            connection = self._connections.get(loop)
            if connection is None or connection.process != os.getpid():
                self._drop_closed()
                coalescer = None if self._policy is None else AsyncCoalescer(self, self._policy)
                connection = _LoopConnection(self._open_channel, self._settings.connections, coalescer)
                self._connections[loop] = connection
            return connection

    def _drop_closed(self) -> None:
        remaining = {loop: made for loop, made in self._connections.items() if not loop.is_closed()}
        if len(remaining) < len(self._connections):
            forks.gate.closed()
        self._connections = remaining

    def _open_channel(self) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(self.address, options=self._options)
        return grpc.aio.secure_channel(self.address, self._credentials, options=self._options)

    async def call(
        self, method: AsyncMethod[Request, Response], request: Request, locate: Callable[[str], str] = str
    ) -> Response:
        """Send one message and return its response; `locate` replaces image numbers in errors, see `from_rpc`."""
        backoff = Backoff(self.timeout)
        attempt = partial(self._attempt, method, request, backoff)
        return await self._answer(attempt(), attempt, backoff, locate)

    async def results(self, call: ImageCall[Result], images: ImageInput, packing: Packing) -> list[Result]:
        """Send the images of a call in as many messages as they need; return what was read of each response, in order.

        Images of one small message share it with those of other calls, where the client joins calls.
        """
        parts = chunks(images, packing)
        connection = self._connection()
        if connection.coalescer is not None:
            two = itertools.islice(parts, 2)
            first = list(two) if is_inline(images) else await connection.readers.read(partial(list, two))
            pending = pending_call(call, first, packing)
            if pending is not None:
                return [await connection.coalescer.call(pending)]
            parts = itertools.chain(first, parts)
        requests = ((call.request(chunk.images), chunk.locate) for chunk in parts)
        return [call.read(response) async for response in self.map_requests(call.method, requests)]

    async def map_requests(
        self, method: AsyncMethod[Request, Response], requests: Iterable[tuple[Request, Callable[[str], str]]]
    ) -> AsyncIterator[Response]:
        """Send requests, `IN_FLIGHT` at a time; yield the responses in order.

        Args:
            method: selects the method of the service.
            requests: each with what replaces image numbers in its errors, see `from_rpc`.
        """
        pending: deque[tuple[grpc.aio.UnaryUnaryCall[Request, Response], Callable[[], Awaitable[Response]]]] = deque()
        try:
            async for request, locate in self._connection().readers.call(iter(requests)):
                backoff = Backoff(self.timeout)
                attempt = partial(self._attempt, method, request, backoff)
                call = attempt()
                pending.append((call, partial(self._answer, call, attempt, backoff, locate)))
                if len(pending) == IN_FLIGHT:
                    yield await pending.popleft()[1]()
            while pending:
                yield await pending.popleft()[1]()
        finally:
            for call, _ in pending:
                call.cancel()

    def send(
        self, method: AsyncMethod[Request, Response], request: Request, timeout: float | None, metadata: Metadata
    ) -> grpc.aio.UnaryUnaryCall[Request, Response]:
        """Send a message once.

        Args:
            method: selects the method of the service.
            request: the message.
            timeout: seconds until it fails; None for no limit.
            metadata: the metadata of the call.
        """
        return method(next(self._connection().stubs))(request, timeout=timeout, metadata=metadata)

    async def stream(self, stream: FeatureStream) -> AsyncGenerator[FeatureChunk]:
        """Send the requests of a stream as fast as the server reads them; yield the results in order.

        The stream is opened again when it is interrupted.
        """
        while not stream.is_complete:
            try:
                async with aclosing(self._stream_once(stream)) as chunks:
                    async for chunk in chunks:
                        yield chunk
                break
            except PartedVAEError as error:
                delay = stream.retry_delay(error, self.timeout)
                if delay is None or not forks.works():
                    raise
            await asyncio.sleep(delay)
        for chunk in stream.finish():
            yield chunk

    async def _stream_once(self, stream: FeatureStream) -> AsyncGenerator[FeatureChunk]:
        """Make one call of a stream."""
        timed_out = False

        async def cancel_at_deadline(timeout: float) -> None:
            nonlocal timed_out
            while stream.waiting_seconds < timeout:
                await asyncio.sleep(max(timeout - stream.waiting_seconds, 0.01))
            timed_out = True
            call.cancel()

        first_response = asyncio.get_running_loop().create_future()

        async def requests() -> AsyncIterator[StreamFeaturesRequest]:
            # A pause after the first one: where a server refuses the call while grpc.aio sends a message, the status is
            # lost, and with it the server's time.
            is_first = True
            async for request in connection.readers.stream(stream.requests()):
                yield request
                if is_first:
                    await asyncio.wait([first_response], timeout=REFUSAL_SECONDS)
                    is_first = False

        connection = self._connection()
        call = next(connection.stubs).StreamFeatures(requests(), metadata=self.metadata())
        watch = asyncio.create_task(cancel_at_deadline(self.timeout)) if self.timeout is not None else None
        try:
            async for response in call:
                if not first_response.done():
                    first_response.set_result(None)
                yield stream.receive(response)
        except grpc.RpcError as error:
            raise self.error(error, stream.locate) from error
        except asyncio.CancelledError as error:
            if timed_out:
                raise deadline_error(self.address) from error
            raise self._cancelled(error) from None
        finally:
            first_response.cancel()
            if watch is not None:
                watch.cancel()
            call.cancel()

    async def close(self) -> None:
        """Close the connections; pending calls are cancelled."""
        with self._lock:
            connections, self._connections, self._closed = self._connections, {}, True
        for loop, connection in connections.items():
            if connection.process != os.getpid():
                continue
            if loop is asyncio.get_running_loop():
                await connection.close()
            elif loop.is_running():
                asyncio.run_coroutine_threadsafe(connection.close(), loop)

    def _attempt(
        self, method: AsyncMethod[Request, Response], request: Request, backoff: Backoff
    ) -> grpc.aio.UnaryUnaryCall[Request, Response]:
        """Send a message once."""
        return self.send(method, request, backoff.remaining, self.metadata())

    async def _answer(
        self,
        call: grpc.aio.UnaryUnaryCall[Request, Response],
        again: Callable[[], grpc.aio.UnaryUnaryCall[Request, Response]],
        backoff: Backoff,
        locate: Callable[[str], str],
    ) -> Response:
        """Return the response of the first attempt, or of a later one where the server refuses the call."""
        while True:
            try:
                return await call
            except grpc.RpcError as error:
                failure = self.error(error, locate)
                delay = backoff.delay(failure)
                if delay is None or not forks.works():
                    raise failure from error
            except asyncio.CancelledError as error:
                raise self._cancelled(error) from None
            await asyncio.sleep(delay)
            call = again()

    def cancelled(self) -> BaseException:
        """Return the exception for a call that was not finished: this client was closed, or the event loop ends."""
        return self.closed_error() if self._closed else asyncio.CancelledError()

    def _cancelled(self, error: asyncio.CancelledError) -> BaseException:
        """Return the exception for a cancelled call: the caller's task was cancelled, or this client was closed."""
        task = asyncio.current_task()
        is_caller = task is None or task.cancelling() > 0
        return error if is_caller or not self._closed else self.closed_error()
