"""Calls of the synchronous client, with threads and futures.

`partedvae.async_transport` uses another API of gRPC, so that this module cannot be generated from it as `client.py` is
from `aio.py`.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from threading import Event, Thread
from typing import TypeAlias, TypeVar

import grpc
from google.protobuf.message import Message

from partedvae import forks
from partedvae.backoff import Backoff
from partedvae.channel import Metadata
from partedvae.coalescer import Coalescer
from partedvae.coalescing import pending_call
from partedvae.connection import Connection, ConnectionSettings
from partedvae.errors import PartedVAEError, deadline_error
from partedvae.image_calls import ImageCall
from partedvae.image_chunks import chunks
from partedvae.image_items import ImageInput
from partedvae.packing import Packing
from partedvae.results import FeatureChunk
from partedvae.streams import FeatureStream
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
Result = TypeVar("Result")
Method: TypeAlias = "Callable[[PartedVAEServiceStub], grpc.UnaryUnaryMultiCallable[Request, Response]]"
"""Selects a method of the service, because each call may go through another channel."""

IN_FLIGHT = 4
"""Chunks of one call that are sent at a time: enough to keep the server busy while the next chunk is prepared."""


class Transport(Connection):
    """Channels to one server for calls from threads; failed calls raise `PartedVAEError`."""

    def __init__(self, settings: ConnectionSettings) -> None:
        """Prepare a connection; the errors are those of `Connection`."""
        super().__init__(settings)
        self._turns = itertools.count()
        self._forget()

    def _forget(self) -> None:
        """Forget the channels: those of another process cannot be used in this one, nor have to be closed."""
        self._process = os.getpid()
        self._channels: list[tuple[grpc.Channel, PartedVAEServiceStub]] = []
        self._coalescer = None if self._policy is None else Coalescer(self, self._policy)

    def _shared_coalescer(self) -> Coalescer | None:
        """Return what joins the calls of this process; None where calls are not joined."""
        if self._process != os.getpid():
            with forks.gate, self._lock:
                if self._process != os.getpid():
                    self._forget()
        self._check_open()
        return self._coalescer

    def _stub(self) -> PartedVAEServiceStub:
        """Return the methods of the service on the channel whose turn it is."""
        with self._lock:
            self._check_open()
            if self._process != os.getpid():
                self._forget()
            turn = next(self._turns) % self._settings.connections
            if turn >= len(self._channels):
                channel = self._open_channel()
                forks.gate.precede_grpc()
                self._channels.append((channel, PartedVAEServiceStub(channel)))
                return self._channels[-1][1]
            return self._channels[turn][1]

    def _open_channel(self) -> grpc.Channel:
        if self._credentials is None:
            return grpc.insecure_channel(self.address, options=self._options)
        return grpc.secure_channel(self.address, self._credentials, options=self._options)

    def call(self, method: Method[Request, Response], request: Request, locate: Callable[[str], str] = str) -> Response:
        """Send one message and return its response; `locate` replaces image numbers in errors, see `from_rpc`."""
        backoff = Backoff(self.timeout)
        attempt = partial(self._attempt, method, request, backoff)
        return self._answer(attempt, attempt, backoff, locate)

    def results(self, call: ImageCall[Result], images: ImageInput, packing: Packing) -> list[Result]:
        """Send the images of a call in as many messages as they need; return what was read of each response, in order.

        Images of one small message share it with those of other calls, where the client joins calls.
        """
        parts = chunks(images, packing)
        first = list(itertools.islice(parts, 2))
        if self._policy is not None:
            pending = pending_call(call, first, packing)
            coalescer = self._shared_coalescer()
            if coalescer is not None and pending is not None:
                return [coalescer.call(pending)]
        if len(first) == 1:
            return [call.read(self.call(call.method, call.request(first[0].images), first[0].locate))]
        requests = ((call.request(chunk.images), chunk.locate) for chunk in itertools.chain(first, parts))
        return [call.read(response) for response in self.map_requests(call.method, requests)]

    def map_requests(
        self, method: Method[Request, Response], requests: Iterable[tuple[Request, Callable[[str], str]]]
    ) -> Iterator[Response]:
        """Send requests, `IN_FLIGHT` at a time; yield the responses in order.

        Args:
            method: selects the method of the service.
            requests: each with what replaces image numbers in its errors, see `from_rpc`.
        """
        metadata = self.metadata()
        pending: deque[tuple[grpc.Future[Response], Callable[[], Response]]] = deque()
        call: grpc.Future[Response]
        with forks.gate.unfinished("calls"):
            try:
                for request, locate in requests:
                    backoff = Backoff(self.timeout)
                    with forks.gate:
                        call = self.send(method, request, self.timeout, metadata)
                    again = partial(self._attempt, method, request, backoff)
                    pending.append((call, partial(self._answer, call.result, again, backoff, locate)))
                    if len(pending) == IN_FLIGHT:
                        yield pending.popleft()[1]()
                while pending:
                    yield pending.popleft()[1]()
            finally:
                for call, _ in pending:
                    call.cancel()

    def send(
        self, method: Method[Request, Response], request: Request, timeout: float | None, metadata: Metadata
    ) -> grpc.Future[Response]:
        """Send a message once, without waiting.

        Args:
            method: selects the method of the service.
            request: the message.
            timeout: seconds until it fails; None for no limit.
            metadata: the metadata of the call.
        """
        return method(self._stub()).future(request, timeout=timeout, metadata=metadata)

    def stream(self, stream: FeatureStream) -> Generator[FeatureChunk]:
        """Send the requests of a stream as fast as the server reads them; yield the results in order.

        The stream is opened again when it is interrupted.
        """
        with forks.gate.unfinished("stream"):
            while not stream.is_complete:
                try:
                    yield from self._stream_once(stream)
                    break
                except PartedVAEError as error:
                    delay = stream.retry_delay(error, self.timeout)
                    if delay is None or not forks.works():
                        raise
                time.sleep(delay)
            yield from stream.finish()

    def _stream_once(self, stream: FeatureStream) -> Iterator[FeatureChunk]:
        """Make one call of a stream."""
        metadata, process = self.metadata(), os.getpid()
        with forks.gate:
            call = self._stub().StreamFeatures(stream.requests(), metadata=metadata)
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
                forks.check(self.address)  # The caller may go on in a child, where no response ever comes.
        except grpc.RpcError as error:
            if timed_out.is_set():
                raise deadline_error(self.address) from error
            raise self.error(error, stream.locate) from error
        finally:
            ended.set()
            if process == os.getpid():
                call.cancel()

    def close(self) -> None:
        """Close the connection; pending calls are cancelled."""
        with self._lock:
            is_own = self._process == os.getpid()
            channels, coalescer = (self._channels, self._coalescer) if is_own else ([], None)
            self._forget()
            self._closed = True
        if coalescer is not None:
            coalescer.close()
        for channel, _ in channels:
            channel.close()
        forks.gate.closed()

    def _attempt(self, method: Method[Request, Response], request: Request, backoff: Backoff) -> Response:
        """Send a message once."""
        metadata = self.metadata()
        with forks.gate:
            return method(self._stub())(request, timeout=backoff.remaining, metadata=metadata)

    def _answer(
        self,
        first: Callable[[], Response],
        again: Callable[[], Response],
        backoff: Backoff,
        locate: Callable[[str], str],
    ) -> Response:
        """Return the response of the first attempt, or of a later one where the server refuses the call."""
        attempt = first
        while True:
            try:
                return attempt()
            except grpc.RpcError as error:
                failure = self.error(error, locate)
                delay = backoff.delay(failure)
                if delay is None or not forks.works():
                    raise failure from error
            time.sleep(delay)
            attempt = again
