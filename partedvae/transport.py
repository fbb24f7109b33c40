"""Calls of both clients: `Transport` with threads and futures, `AsyncTransport` with tasks.

The two use different APIs of gRPC, so that one cannot be generated from the other as `client.py` is from `aio.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing
from functools import cached_property
from threading import Event, Thread
from typing import TYPE_CHECKING, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from partedvae.channel import CHANNEL_OPTIONS, Metadata, Token, call_metadata
from partedvae.errors import PartedVAEError, deadline_error, from_rpc
from partedvae.image_chunks import Chunk
from partedvae.results import FeatureChunk
from partedvae.streams import FeatureStream
from partedvae.v1.service_pb2 import StreamFeaturesRequest
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub
from partedvae.v1.tensors_pb2 import Images

if TYPE_CHECKING:
    from partedvae.v1.service_pb2_grpc import PartedVAEServiceAsyncStub

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)

IN_FLIGHT = 4
"""Chunks of one call that are sent at a time: enough to keep the server busy while the next chunk is prepared."""


class _Connection:
    """Settings and errors of a connection, for both transports."""

    def __init__(
        self, address: str, timeout: float | None, token: Token | None, credentials: grpc.ChannelCredentials | None
    ) -> None:
        """Prepare a connection; it is made at the first call.

        Args:
            address: HOST:PORT of the server.
            timeout: seconds per message; None waits without limit.
            token: sent with each call.
            credentials: of the channel; None for plain text.
        """
        self.address = address
        self.timeout = timeout
        self.credentials = credentials
        self._token = token

    def metadata(self) -> Metadata:
        return call_metadata(self._token)

    def error(self, error: grpc.RpcError, locate: Callable[[str], str] = str) -> PartedVAEError:
        return from_rpc(error, self.address, locate)


class Transport(_Connection):
    """A channel to one server for calls from threads; failed calls raise `PartedVAEError`."""

    def __init__(
        self, address: str, timeout: float | None, token: Token | None, credentials: grpc.ChannelCredentials | None
    ) -> None:
        """Prepare a connection; the arguments are those of `_Connection`."""
        super().__init__(address, timeout, token, credentials)
        if credentials is None:
            self._channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        else:
            self._channel = grpc.secure_channel(address, credentials, options=CHANNEL_OPTIONS)
        self.stub = PartedVAEServiceStub(self._channel)

    def call(self, rpc: grpc.UnaryUnaryMultiCallable[Request, Response], request: Request) -> Response:
        """Send one message and return its response."""
        try:
            return rpc(request, timeout=self.timeout, metadata=self.metadata())
        except grpc.RpcError as error:
            raise self.error(error) from error

    def map_chunks(
        self,
        rpc: grpc.UnaryUnaryMultiCallable[Request, Response],
        make_request: Callable[[Images], Request],
        chunks: Iterable[Chunk],
    ) -> Iterator[Response]:
        """Send each chunk as a request, `IN_FLIGHT` at a time; yield the responses in order."""
        metadata = self.metadata()
        pending: deque[tuple[Chunk, grpc.Future[Response]]] = deque()
        try:
            for chunk in chunks:
                request = make_request(chunk.images)
                pending.append((chunk, rpc.future(request, timeout=self.timeout, metadata=metadata)))
                if len(pending) == IN_FLIGHT:
                    yield self._result(*pending.popleft())
            while pending:
                yield self._result(*pending.popleft())
        finally:
            for _, call in pending:
                call.cancel()

    def stream(self, stream: FeatureStream) -> Iterator[FeatureChunk]:
        """Send the requests of a stream as fast as the server reads them; yield the results in order.

        The stream is opened again when it is interrupted.
        """
        while not stream.is_complete:
            try:
                yield from self._stream_once(stream)
                break
            except PartedVAEError as error:
                delay = stream.retry_delay(error, self.timeout)
                if delay is None:
                    raise
            time.sleep(delay)
        yield from stream.finish()

    def _stream_once(self, stream: FeatureStream) -> Iterator[FeatureChunk]:
        """Make one call of a stream."""
        call = self.stub.StreamFeatures(stream.requests(), metadata=self.metadata())
        ended, timed_out = Event(), Event()

        def cancel_at_deadline(timeout: float) -> None:
            while not ended.wait(max(timeout - stream.waiting_seconds, 0.01)):
                if stream.waiting_seconds >= timeout:
                    timed_out.set()
                    call.cancel()
                    return

        if self.timeout is not None:
            Thread(target=cancel_at_deadline, args=(self.timeout,), name="partedvae-stream", daemon=True).start()
        try:
            for response in call:
                yield stream.receive(response)
        except grpc.RpcError as error:
            if timed_out.is_set():
                raise deadline_error(self.address) from error
            raise self.error(error, stream.locate) from error
        finally:
            ended.set()
            call.cancel()

    def close(self) -> None:
        """Close the connection; pending calls are cancelled."""
        self._channel.close()

    def _result(self, chunk: Chunk, call: grpc.Future[Response]) -> Response:
        try:
            return call.result()
        except grpc.RpcError as error:
            raise self.error(error, chunk.locate) from error


class AsyncTransport(_Connection):
    """A channel to one server for one event loop; failed calls raise `PartedVAEError`."""

    # Made at the first call: a channel of grpc.aio belongs to the event loop that is running when it is made.
    @cached_property
    def _channel(self) -> grpc.aio.Channel:
        if self.credentials is None:
            return grpc.aio.insecure_channel(self.address, options=CHANNEL_OPTIONS)
        return grpc.aio.secure_channel(self.address, self.credentials, options=CHANNEL_OPTIONS)

    @cached_property
    def stub(self) -> PartedVAEServiceAsyncStub:
        """The methods of the service."""
        return PartedVAEServiceStub(self._channel)

    async def call(self, rpc: grpc.aio.UnaryUnaryMultiCallable[Request, Response], request: Request) -> Response:
        """Send one message and return its response."""
        try:
            return await rpc(request, timeout=self.timeout, metadata=self.metadata())
        except grpc.RpcError as error:
            raise self.error(error) from error

    async def map_chunks(
        self,
        rpc: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        make_request: Callable[[Images], Request],
        chunks: Iterable[Chunk],
    ) -> AsyncIterator[Response]:
        """Send each chunk as a request, `IN_FLIGHT` at a time; yield the responses in order."""
        metadata = self.metadata()
        requests = ((chunk, make_request(chunk.images)) for chunk in chunks)
        pending: deque[tuple[Chunk, grpc.aio.UnaryUnaryCall[Request, Response]]] = deque()
        try:
            while (item := await asyncio.to_thread(next, requests, None)) is not None:
                chunk, request = item
                pending.append((chunk, rpc(request, timeout=self.timeout, metadata=metadata)))
                if len(pending) == IN_FLIGHT:
                    yield await self._result(*pending.popleft())
            while pending:
                yield await self._result(*pending.popleft())
        finally:
            for _, call in pending:
                call.cancel()

    async def stream(self, stream: FeatureStream) -> AsyncIterator[FeatureChunk]:
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
                if delay is None:
                    raise
            await asyncio.sleep(delay)
        for chunk in stream.finish():
            yield chunk

    async def _stream_once(self, stream: FeatureStream) -> AsyncGenerator[FeatureChunk]:
        """Make one call of a stream."""

        async def requests() -> AsyncIterator[StreamFeaturesRequest]:
            source = stream.requests()
            while (request := await asyncio.to_thread(next, source, None)) is not None:
                yield request

        timed_out = False

        async def cancel_at_deadline(timeout: float) -> None:
            nonlocal timed_out
            while stream.waiting_seconds < timeout:
                await asyncio.sleep(max(timeout - stream.waiting_seconds, 0.01))
            timed_out = True
            call.cancel()

        call = self.stub.StreamFeatures(requests(), metadata=self.metadata())
        watch = asyncio.create_task(cancel_at_deadline(self.timeout)) if self.timeout is not None else None
        try:
            async for response in call:
                yield stream.receive(response)
        except grpc.RpcError as error:
            raise self.error(error, stream.locate) from error
        except asyncio.CancelledError as error:
            if timed_out:
                raise deadline_error(self.address) from error
            raise
        finally:
            if watch is not None:
                watch.cancel()
            call.cancel()

    async def close(self) -> None:
        """Close the connection; pending calls are cancelled."""
        await self._channel.close()

    async def _result(self, chunk: Chunk, call: grpc.aio.UnaryUnaryCall[Request, Response]) -> Response:
        try:
            return await call
        except grpc.RpcError as error:
            raise self.error(error, chunk.locate) from error
