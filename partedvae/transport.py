"""The way of messages to a server and back for `Client`; `partedvae.async_transport` is its twin for asyncio."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from threading import Event, Thread
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from partedvae.channel import CHANNEL_OPTIONS, IN_FLIGHT, Token, call_metadata
from partedvae.errors import DeadlineError, from_rpc, not_in_time
from partedvae.images import Chunk
from partedvae.results import FeatureChunk
from partedvae.streams import Exchange
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub

Request = TypeVar("Request", bound=Message)
Reply = TypeVar("Reply", bound=Message)


class Transport:
    """A channel to one server. What goes wrong on the way is raised as a `PartedVAEError`."""

    def __init__(
        self, address: str, timeout: float | None, token: Token | None, credentials: grpc.ChannelCredentials | None
    ) -> None:
        """Prepare the channel; it is connected at the first call. Without credentials it is in plain text."""
        self._address = address
        self._timeout = timeout
        self._token = token
        if credentials is None:
            self._channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        else:
            self._channel = grpc.secure_channel(address, credentials, options=CHANNEL_OPTIONS)
        self.stub = PartedVAEServiceStub(self._channel)

    def call(self, rpc: grpc.UnaryUnaryMultiCallable[Request, Reply], request: Request) -> Reply:
        """Send one message and wait for its reply."""
        try:
            return rpc(request, timeout=self._timeout, metadata=call_metadata(self._token))
        except grpc.RpcError as error:
            raise from_rpc(error, self._address) from error

    def each(
        self, rpc: grpc.UnaryUnaryMultiCallable[Request, Reply], requests: Iterator[tuple[Chunk, Request]]
    ) -> Iterator[Reply]:
        """Send the chunks of one call, a few at a time; yield the replies in order."""
        metadata = call_metadata(self._token)
        under_way: deque[tuple[Chunk, grpc.Future[Reply]]] = deque()
        try:
            for chunk, request in requests:
                under_way.append((chunk, rpc.future(request, timeout=self._timeout, metadata=metadata)))
                if len(under_way) == IN_FLIGHT:
                    yield self._reply(*under_way.popleft())
            while under_way:
                yield self._reply(*under_way.popleft())
        finally:
            for _, call in under_way:
                call.cancel()

    def stream(self, exchange: Exchange) -> Iterator[FeatureChunk]:
        """Send an exchange's requests as the server takes them; yield the results in order."""
        call = self.stub.StreamFeatures(exchange.requests(), metadata=call_metadata(self._token))
        over, late = Event(), Event()

        def cancel_when_late(timeout: float) -> None:
            while not over.wait(max(timeout - exchange.waits, 0.01)):
                if exchange.waits >= timeout:
                    late.set()
                    call.cancel()
                    return

        if self._timeout is not None:
            Thread(target=cancel_when_late, args=(self._timeout,), name="partedvae-stream", daemon=True).start()
        try:
            for reply in call:
                yield exchange.answered(reply)
        except grpc.RpcError as error:
            if late.is_set():
                raise DeadlineError(not_in_time(self._address)) from error
            raise from_rpc(error, self._address, exchange.locate) from error
        finally:
            over.set()
            call.cancel()
        yield from exchange.rest()

    def close(self) -> None:
        """Close the connection; calls under way are cancelled."""
        self._channel.close()

    def _reply(self, chunk: Chunk, call: grpc.Future[Reply]) -> Reply:
        try:
            return call.result()
        except grpc.RpcError as error:
            raise from_rpc(error, self._address, chunk.locate) from error
