"""The way of messages to a server and back for `AsyncClient`; `partedvae.transport` is its twin for threads."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from partedvae.channel import CHANNEL_OPTIONS, IN_FLIGHT, Token, call_metadata
from partedvae.errors import DeadlineError, from_rpc, not_in_time
from partedvae.images import Chunk
from partedvae.results import FeatureChunk
from partedvae.streams import Exchange
from partedvae.v1.service_pb2 import StreamFeaturesRequest
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub

if TYPE_CHECKING:
    from partedvae.v1.service_pb2_grpc import PartedVAEServiceAsyncStub

Request = TypeVar("Request", bound=Message)
Reply = TypeVar("Reply", bound=Message)


class AsyncTransport:
    """A channel to one server, of the event loop that runs when it is made. Raises `PartedVAEError`s."""

    def __init__(
        self, address: str, timeout: float | None, token: Token | None, credentials: grpc.ChannelCredentials | None
    ) -> None:
        """Prepare the channel; it is connected at the first call. Without credentials it is in plain text."""
        self._address = address
        self._timeout = timeout
        self._token = token
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS)
        self.stub: PartedVAEServiceAsyncStub = PartedVAEServiceStub(self._channel)

    async def call(self, rpc: grpc.aio.UnaryUnaryMultiCallable[Request, Reply], request: Request) -> Reply:
        """Send one message and wait for its reply."""
        try:
            return await rpc(request, timeout=self._timeout, metadata=call_metadata(self._token))
        except grpc.RpcError as error:
            raise from_rpc(error, self._address) from error

    async def each(
        self, rpc: grpc.aio.UnaryUnaryMultiCallable[Request, Reply], requests: Iterator[tuple[Chunk, Request]]
    ) -> AsyncIterator[Reply]:
        """Send the chunks of one call, a few at a time; yield the replies in order."""
        metadata = call_metadata(self._token)
        under_way: deque[tuple[Chunk, grpc.aio.UnaryUnaryCall[Request, Reply]]] = deque()
        try:
            while (item := await asyncio.to_thread(next, requests, None)) is not None:
                chunk, request = item
                under_way.append((chunk, rpc(request, timeout=self._timeout, metadata=metadata)))
                if len(under_way) == IN_FLIGHT:
                    yield await self._reply(*under_way.popleft())
            while under_way:
                yield await self._reply(*under_way.popleft())
        finally:
            for _, call in under_way:
                call.cancel()

    async def stream(self, exchange: Exchange) -> AsyncIterator[FeatureChunk]:
        """Send an exchange's requests as the server takes them; yield the results in order."""

        async def requests() -> AsyncIterator[StreamFeaturesRequest]:
            source = exchange.requests()
            while (request := await asyncio.to_thread(next, source, None)) is not None:
                yield request

        late = False

        async def cancel_when_late(timeout: float) -> None:
            nonlocal late
            while exchange.waits < timeout:
                await asyncio.sleep(max(timeout - exchange.waits, 0.01))
            late = True
            call.cancel()

        call = self.stub.StreamFeatures(requests(), metadata=call_metadata(self._token))
        watch = asyncio.create_task(cancel_when_late(self._timeout)) if self._timeout is not None else None
        try:
            async for reply in call:
                yield exchange.answered(reply)
        except grpc.RpcError as error:
            raise from_rpc(error, self._address, exchange.locate) from error
        except asyncio.CancelledError as error:
            if late:
                raise DeadlineError(not_in_time(self._address)) from error
            raise
        finally:
            if watch is not None:
                watch.cancel()
            call.cancel()
        for chunk in exchange.rest():
            yield chunk

    async def close(self) -> None:
        """Close the connection; calls under way are cancelled."""
        await self._channel.close()

    async def _reply(self, chunk: Chunk, call: grpc.aio.UnaryUnaryCall[Request, Reply]) -> Reply:
        try:
            return await call
        except grpc.RpcError as error:
            raise from_rpc(error, self._address, chunk.locate) from error
