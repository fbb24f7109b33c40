"""Tests of `partedvae.serving.grpc.calls` and the handlers: how calls end, and what they hold until then."""

from __future__ import annotations

import asyncio
import gc
import logging
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from types import FrameType
from typing import Any

import grpc
import pytest

from partedvae.serving.errors import InvalidInputError
from partedvae.serving.grpc.calls import TRANSIT_SECONDS, Call
from partedvae.serving.grpc.streaming import ChunkStream
from partedvae.serving.memory_budget import MIB
from partedvae.serving.request_memory import RequestMemory, request_memory
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub
from partedvae.v1.tensors_pb2 import Images, PackedImages
from tests.processes import PATIENCE
from tests.serving.gated_batches import eventually
from tests.serving.grpc.call_server import SERVICE, STREAM, UNARY, WATCH, running
from tests.serving.grpc.http2_client import Http2Client, framed

# gRPC uses the first event loop of the process that it sees, so that all tests share one.
pytestmark = pytest.mark.asyncio(loop_scope="module")

EXHAUSTED = "8"


@pytest.fixture(autouse=True)
def no_errors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Check that neither gRPC nor asyncio nor the server logged an error."""
    yield
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


def classify(size: int = 0) -> pb.ClassifyRequest:
    return pb.ClassifyRequest(images=Images(packed=PackedImages(data=bytes(size))))


def chunk(size: int) -> pb.StreamFeaturesRequest:
    return pb.StreamFeaturesRequest(images=Images(packed=PackedImages(data=bytes(size))))


async def test_every_end_returns_the_memory() -> None:
    """After OK, an error, an abort, a cancellation, a deadline and a disconnection nothing is reserved."""

    async def handle(request: pb.ClassifyRequest, context: Any) -> pb.ClassifyResponse:
        request_memory.get().reserve(1000)
        kind = request.model.name
        if kind == "error":
            raise InvalidInputError("no")
        if kind == "abort":
            await context.abort(grpc.StatusCode.NOT_FOUND, "gone")
        if kind == "wait":
            waiting.set()
            await asyncio.Event().wait()
        return pb.ClassifyResponse()

    waiting = asyncio.Event()
    async with running(handle) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = PartedVAEServiceStub(channel)

            async def code(kind: str, timeout: float | None = None) -> grpc.StatusCode:
                request = classify(100)
                request.model.name = kind
                call = stub.Classify(request, timeout=timeout)
                if kind == "wait" and timeout is None:
                    await waiting.wait()
                    assert server.budget.messages.reserved == 3 * request.ByteSize()
                    assert server.budget.work.reserved == 1000
                    call.cancel()
                return await call.code()

            assert await code("ok") is grpc.StatusCode.OK
            assert await code("error") is grpc.StatusCode.INVALID_ARGUMENT
            assert await code("abort") is grpc.StatusCode.NOT_FOUND
            assert await code("wait") is grpc.StatusCode.CANCELLED
            assert await code("wait", 0.1) is grpc.StatusCode.DEADLINE_EXCEEDED
            await eventually(lambda: server.is_idle)
        async with Http2Client.connected(server.port) as client:
            waiting.clear()
            request = classify()
            request.model.name = "wait"
            await client.call(UNARY, framed(request.SerializeToString()))
            await waiting.wait()
        await eventually(lambda: server.is_idle)


@pytest.mark.parametrize("path", [UNARY, WATCH])
async def test_unfinished_request(path: str) -> None:
    """A request that does not arrive is ended after `transfer_seconds`, with a status that lets the client retry."""
    async with running(transfer_seconds=0.1) as server, Http2Client.connected(server.port) as client:
        stream = await client.call(path, framed(b"", length=1000), end=False)
        status = await client.status(stream)
        assert status["grpc-status"] == EXHAUSTED
        assert "waited%20for%20its%20client" in status["grpc-message"].replace(" ", "%20")
        assert status["grpc-retry-pushback-ms"] == "1000"
        await eventually(lambda: server.is_idle)
        assert not client.is_closed


async def test_idle_stream() -> None:
    """A stream without requests is ended after `idle_seconds`, but not while a request is being worked on."""

    async def handle(
        requests: AsyncIterator[pb.StreamFeaturesRequest], context: Any
    ) -> AsyncIterator[pb.StreamFeaturesResponse]:
        async for _ in requests:
            await gate.wait()
            yield pb.StreamFeaturesResponse()

    gate = asyncio.Event()
    async with running(stream=handle, idle_seconds=0.2) as server, Http2Client.connected(server.port) as client:
        working = await client.call(STREAM, framed(b""), end=False)
        idle = await client.call(STREAM, end=False)
        assert (await client.status(idle))["grpc-status"] == EXHAUSTED
        await asyncio.sleep(0.5)
        assert working not in client.statuses
        gate.set()
        assert (await client.status(working))["grpc-status"] == EXHAUSTED
        assert client.received[working] == framed(b"")
        await eventually(lambda: server.is_idle)
        assert not client.is_closed


async def test_watch_is_not_idle() -> None:
    """A call that only reports changes is not ended by the limits of time."""
    async with (
        running(idle_seconds=0.1, transfer_seconds=0.1) as server,
        Http2Client.connected(server.port) as client,
    ):
        stream = await client.call(WATCH, framed(b""))
        await asyncio.sleep(0.6)
        assert stream not in client.statuses
        assert server.limiter.active_calls == 1
        await client.reset(stream)
        await eventually(lambda: server.is_idle)


async def test_unread_reply() -> None:
    """A reply that is not taken ends with its connection; other connections go on."""

    async def handle(request: pb.ClassifyRequest, context: Any) -> pb.ClassifyResponse:
        request_memory.get().reserve(1000)
        return pb.ClassifyResponse(model=pb.ModelVersion(name="x" * 1000))

    async with running(handle, transfer_seconds=1.0) as server, grpc.aio.insecure_channel(server.address) as channel:
        other: Any = channel.stream_stream(STREAM)()
        await other.write(b"")
        assert await other.read() == b""
        async with Http2Client.connected(server.port, window=0) as client:
            for _ in range(5):
                await client.call(UNARY, framed(classify(1000).SerializeToString()))
            await eventually(lambda: server.budget.work.reserved == 5000)
            await eventually(lambda: server.budget.messages.reserved == 0)  # The requests themselves are gone.
            await client.until(lambda: client.is_closed)
        await other.write(b"")
        assert await other.read() == b""
        await other.done_writing()
        assert await other.code() is grpc.StatusCode.OK
        await eventually(lambda: server.is_idle)


async def test_unread_replies_of_a_stream() -> None:
    """A stream whose replies are not taken ends too, while its next request is awaited."""

    async def handle(
        requests: AsyncIterator[pb.StreamFeaturesRequest], context: Any
    ) -> AsyncIterator[pb.StreamFeaturesResponse]:
        reading = asyncio.create_task(collect(requests))
        for _ in range(2):
            yield pb.StreamFeaturesResponse(features=pb.ExtractFeaturesResponse(model=pb.ModelVersion(name="x" * 1000)))
        await reading

    async def collect(requests: AsyncIterator[pb.StreamFeaturesRequest]) -> None:
        async for _ in requests:
            pass

    async with (
        running(stream=handle, transfer_seconds=0.3) as server,
        Http2Client.connected(server.port, window=0) as client,
    ):
        await client.call(STREAM, framed(chunk(1000).SerializeToString()), end=False)
        await client.until(lambda: client.is_closed)
        await eventually(lambda: server.is_idle)


@pytest.mark.parametrize("path", [UNARY, STREAM, WATCH])
async def test_many_evictions(path: str) -> None:
    """Calls that are ended for others end completely, one after the other, with their connection open."""
    async with running(max_calls=100) as server, Http2Client.connected(server.port) as client:
        is_watch = path == WATCH
        ended: list[Call] = []
        for _ in range(50):
            stream = await client.call(path, framed(b"") if is_watch else b"", end=is_watch)
            await eventually(lambda: any(call.waits_since and not call.sending_since for call in server.limiter))
            (call,) = server.limiter
            call.evict("others need its place")
            ended.append(call)
            assert (await client.status(stream))["grpc-status"] == EXHAUSTED
            await eventually(lambda: ended[-1].done and server.is_idle)
        assert not client.is_closed


async def test_eviction_while_a_reply_is_sent() -> None:
    """A call whose client takes the reply that is on its way ends with a status, and its connection stays."""

    async def handle(
        requests: AsyncIterator[pb.StreamFeaturesRequest], context: Any
    ) -> AsyncIterator[pb.StreamFeaturesResponse]:
        async for _ in requests:
            yield pb.StreamFeaturesResponse(errors=[pb.ImageError(index=1)])

    async with running(stream=handle) as server, Http2Client.connected(server.port, window=0) as client:
        stream = await client.call(STREAM, framed(b""), end=False)
        await eventually(lambda: any(call.sending_since for call in server.limiter))
        (call,) = server.limiter
        call.evict("others need its place")
        await asyncio.sleep(TRANSIT_SECONDS / 4)
        await client.take(stream, 100)
        assert (await client.status(stream))["grpc-status"] == EXHAUSTED
        assert client.received[stream] == framed(
            pb.StreamFeaturesResponse(errors=[pb.ImageError(index=1)]).SerializeToString()
        )
        await eventually(lambda: server.is_idle)
        assert not client.is_closed


async def test_eviction_ends_the_work() -> None:
    """A stream that is ended while a request is being worked on does not finish the work."""

    async def handle(
        requests: AsyncIterator[pb.StreamFeaturesRequest], context: Any
    ) -> AsyncIterator[pb.StreamFeaturesResponse]:
        async def handler_for(first: pb.StreamFeaturesRequest) -> Any:
            return work

        async with aclosing(ChunkStream(aiter(requests), handler_for).replies()) as replies:
            async for reply in replies:
                yield reply

    async def work(request: pb.StreamFeaturesRequest) -> pb.StreamFeaturesResponse:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return pb.StreamFeaturesResponse()

    started, ended = asyncio.Event(), asyncio.Event()
    async with running(stream=handle) as server, Http2Client.connected(server.port) as client:
        stream = await client.call(STREAM, framed(b""), end=False)
        await started.wait()
        (call,) = server.limiter
        await eventually(lambda: call.reading_since > 0)
        assert call.idle_since == 0
        call.evict("others need its place")
        assert (await client.status(stream))["grpc-status"] == EXHAUSTED
        await asyncio.wait_for(ended.wait(), PATIENCE)
        await eventually(lambda: server.is_idle)
        assert not client.is_closed


async def test_an_eviction_at_the_moment_of_an_error() -> None:
    """A call that fails while it is being ended has one status, and no error is logged."""

    async def handle(
        requests: AsyncIterator[pb.StreamFeaturesRequest], context: Any
    ) -> AsyncIterator[pb.StreamFeaturesResponse]:
        reading = asyncio.create_task(anext(requests, None))
        await asyncio.sleep(0)
        (call,) = server.limiter
        call.evict("others need its place")
        for _ in range(turns):
            await asyncio.sleep(0)
        reading.add_done_callback(lambda task: task.exception())
        yield fail()

    def fail() -> pb.StreamFeaturesResponse:
        raise InvalidInputError("no")

    turns = 0
    for turns in range(5):  # noqa: B007  # the handler uses it
        async with running(stream=handle) as server, Http2Client.connected(server.port) as client:
            stream = await client.call(STREAM, end=False)
            assert (await client.status(stream))["grpc-status"] in (EXHAUSTED, "3")
            await eventually(lambda: server.is_idle)


async def test_a_connection_that_ends_while_replies_are_written() -> None:
    """The call is cancelled, and nothing is logged as an error."""

    async def handle(
        requests: AsyncIterator[pb.StreamFeaturesRequest], context: Any
    ) -> AsyncIterator[pb.StreamFeaturesResponse]:
        while True:
            yield pb.StreamFeaturesResponse()

    async with running(stream=handle) as server:
        for _ in range(20):
            async with Http2Client.connected(server.port) as client:
                stream = await client.call(STREAM, framed(b""), end=False)
                await client.until(lambda client=client, stream=stream: stream in client.received)
            await eventually(lambda: server.is_idle)


async def test_idle_streams_hold_nothing() -> None:
    """While a stream waits for its next request, the bytes of the last one are not in memory."""
    async with running() as server, Http2Client.connected(server.port) as client:
        tracemalloc.start()
        try:
            stream = await client.call(STREAM, framed(chunk(5 * MIB).SerializeToString()), end=False)
            await client.until(lambda client=client, stream=stream: stream in client.received)
            await eventually(lambda: any(call.idle_since for call in server.limiter))
            await eventually(lambda: tracemalloc.get_traced_memory()[0] < 4 * MIB)
            assert tracemalloc.get_traced_memory()[1] > 5 * MIB
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("path", [UNARY, STREAM])
async def test_refused_requests_are_freed_at_once(path: str) -> None:
    """A request and its call do not wait for the cyclic garbage collector when they end with an error."""

    async def unary(request: pb.ClassifyRequest, context: Any) -> pb.ClassifyResponse:
        kept = (request, context)
        try:
            raise KeyError(kept)
        except KeyError as error:
            raise InvalidInputError("no") from error

    async def stream(
        requests: AsyncIterator[pb.StreamFeaturesRequest], context: Any
    ) -> AsyncIterator[pb.StreamFeaturesResponse]:
        async for request in requests:
            yield pb.StreamFeaturesResponse()
            await unary(request, context)  # type: ignore[arg-type]

    async with running(unary, stream) as server, Http2Client.connected(server.port) as client:
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for _ in range(3):
                number = await client.call(path, framed(classify(10_000).SerializeToString()))
                assert (await client.status(number))["grpc-status"] == "3"
            await eventually(lambda: server.is_idle)
            gc.collect()
            kept = [thing for thing in gc.garbage if isinstance(thing, Call | FrameType | RequestMemory | KeyError)]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
        assert kept == []


@pytest.mark.parametrize("wbits", [zlib.MAX_WBITS, zlib.MAX_WBITS | 16])
async def test_compressed_requests_are_reserved_before_they_are_inflated(wbits: int) -> None:
    """The memory of a compressed request is that of the largest message that it can be, until its size is known."""

    async def handle(request: pb.ClassifyRequest, context: Any) -> pb.ClassifyResponse:
        sizes.append(request.ByteSize())
        reserved.append(server.budget.messages.reserved)
        return pb.ClassifyResponse()

    sizes: list[int] = []
    reserved: list[int] = []
    async with running(handle, max_message_bytes=4 * MIB) as server, Http2Client.connected(server.port) as client:

        async def send(size: int) -> dict[str, str]:
            compressor = zlib.compressobj(wbits=wbits)
            data = compressor.compress(classify(size).SerializeToString()) + compressor.flush()
            encoding = "gzip" if wbits > zlib.MAX_WBITS else "deflate"
            number = await client.call(UNARY, framed(data, compressed=True), encoding=encoding)
            return await client.status(number)

        for size in (10, 5000, 3 * MIB):
            assert (await send(size))["grpc-status"] == "0"
            assert reserved[-1] == 3 * sizes[-1] == 3 * classify(size).ByteSize()
        assert (await send(5 * MIB))["grpc-status"] == EXHAUSTED
        await eventually(lambda: server.is_idle)
        server.budget.messages.reserve(server.budget.messages.limit - 8 * MIB)
        status = await send(3 * MIB)
        assert status["grpc-status"] == EXHAUSTED
        assert "other requests hold" in status["grpc-message"]
        assert len(sizes) == 3


async def test_calls_are_not_admitted_beyond_the_limit_while_replies_are_unread() -> None:
    """A reply that is not taken keeps its place, so that the number of replies in memory is limited."""
    async with running(max_calls=4) as server, Http2Client.connected(server.port, window=0) as client:
        streams = [await client.call(UNARY, framed(b"")) for _ in range(4)]
        await eventually(lambda: sum(call.sending_since > 0 for call in server.limiter) == 4)
        refused = await client.call(UNARY, framed(b""))
        assert (await client.status(refused))["grpc-status"] == EXHAUSTED
        for stream in streams:
            assert stream not in client.statuses
            await client.reset(stream)
        await eventually(lambda: server.is_idle)


async def test_a_dead_stream_does_not_wait_for_memory() -> None:
    """A message that waits for memory is dropped when its client has gone."""
    async with running() as server:
        pool = server.budget.messages
        pool.reserve(pool.limit)
        async with Http2Client.connected(server.port) as client:
            await client.call(STREAM, framed(chunk(5 * MIB).SerializeToString()), end=False)
            await eventually(lambda: pool.waiting == 1)
        await eventually(lambda: pool.waiting == 0)
        pool.release(pool.limit)
        await eventually(lambda: server.is_idle)


async def test_names() -> None:
    """A call has the address of its client, and gRPC's service has its method."""
    seen: list[Call] = []

    async def handle(request: pb.ClassifyRequest, context: Any) -> pb.ClassifyResponse:
        seen.extend(server.limiter)
        return pb.ClassifyResponse()

    async with running(handle) as server, Http2Client.connected(server.port) as client:
        number = await client.call(f"/{SERVICE}/Classify", framed(b""))
        assert (await client.status(number))["grpc-status"] == "0"
        assert [call.connection for call in seen] == [client.peer]
