"""Tests of `partedvae.serving.grpc.streaming`, with numbers as requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from weakref import WeakSet

import pytest

from partedvae.serving.errors import InvalidInputError, StoppingError
from partedvae.serving.grpc.streaming import MAX_PENDING_CHUNKS, ChunkHandler, ChunkStream
from tests.serving.gated_batches import eventually


class StreamClient:
    """A client that sends numbers and receives replies; either can be suspended."""

    def __init__(self, count: int, *, ends: bool = True) -> None:
        self.sent: list[int] = []
        self.written: list[str] = []
        self.active = 0
        self.reads = asyncio.Event()
        self.reads.set()
        self._count = count
        self._ends = ends

    async def requests(self) -> AsyncIterator[int]:
        for number in range(self._count):
            self.sent.append(number)
            yield number
        if not self._ends:
            await asyncio.Event().wait()

    async def write(self, reply: str) -> None:
        await self.reads.wait()
        self.written.append(reply)

    async def run(self, stream: ChunkStream[int, str]) -> None:
        """Write the replies of a stream."""
        async with aclosing(stream.replies()) as replies:
            async for reply in replies:
                await self.write(reply)

    def stream(self, work: Callable[[int], float] = lambda _: 0.0) -> ChunkStream[int, str]:
        """Create a stream whose n-th reply takes `work(n)` seconds."""

        async def handle(number: int) -> str:
            self.active += 1
            try:
                await asyncio.sleep(work(number))
            finally:
                self.active -= 1
            return f"reply {number}"

        async def handler_for(first: int) -> ChunkHandler[int, str]:
            return handle

        return ChunkStream(self.requests(), handler_for)


async def test_in_order() -> None:
    """Replies are written in the order of the requests, although later ones are ready first."""
    client = StreamClient(20)
    await client.run(client.stream(lambda number: 0.02 if number % 3 == 0 else 0.0))
    assert client.written == [f"reply {number}" for number in range(20)]


async def test_no_requests() -> None:
    """A stream without requests has no replies and no error."""
    client = StreamClient(0)
    await client.run(client.stream())
    assert client.written == []


async def test_slow_reader() -> None:
    """While replies cannot be written, only `MAX_PENDING_CHUNKS` requests are read."""
    client = StreamClient(100)
    client.reads.clear()
    run = asyncio.create_task(client.run(client.stream()))
    await eventually(lambda: len(client.sent) == MAX_PENDING_CHUNKS)
    await asyncio.sleep(0.05)
    assert len(client.sent) == MAX_PENDING_CHUNKS
    client.reads.set()
    await run
    assert len(client.written) == 100


async def test_cancelled_stream() -> None:
    """Cancelling a stream cancels its requests, and nothing more is read."""
    client = StreamClient(100)
    run = asyncio.create_task(client.run(client.stream(lambda _: 3600)))
    await eventually(lambda: client.active == MAX_PENDING_CHUNKS)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert client.active == 0
    assert len(client.sent) == MAX_PENDING_CHUNKS


async def test_failed_request() -> None:
    """A failed request ends the stream after the replies to earlier ones; later ones are cancelled."""
    client = StreamClient(10)

    async def handle(number: int) -> str:
        if number == 2:
            raise InvalidInputError("two is bad")
        if number > 2:
            await asyncio.Event().wait()
        return f"reply {number}"

    async def handler_for(first: int) -> ChunkHandler[int, str]:
        return handle

    with pytest.raises(InvalidInputError, match="two is bad"):
        await client.run(ChunkStream(client.requests(), handler_for))
    assert client.written == ["reply 0", "reply 1"]


async def test_failed_first_request() -> None:
    """An error of the first request ends the stream."""
    client = StreamClient(3)

    async def handler_for(first: int) -> ChunkHandler[int, str]:
        raise InvalidInputError(f"nothing begins with {first}")

    with pytest.raises(InvalidInputError, match="nothing begins with 0"):
        await client.run(ChunkStream(client.requests(), handler_for))
    assert client.written == []


async def test_failed_read() -> None:
    """An error while reading ends the stream after the replies to the requests that were read."""
    client = StreamClient(0)

    async def requests() -> AsyncIterator[int]:
        yield 0
        raise InvalidInputError("no message")

    async def handler_for(first: int) -> ChunkHandler[int, str]:
        async def handle(number: int) -> str:
            return f"reply {number}"

        return handle

    with pytest.raises(InvalidInputError, match="no message"):
        await client.run(ChunkStream(requests(), handler_for))
    assert client.written == ["reply 0"]


async def test_stopping() -> None:
    """When the server stops, the requests that were read get replies, and the error has their number."""
    client = StreamClient(3, ends=False)
    stream = client.stream(lambda number: 0.02)
    run = asyncio.create_task(client.run(stream))
    await eventually(lambda: client.active == 3)
    stream.stop()
    with pytest.raises(StoppingError, match="the first 3 requests of the stream have replies; send the rest again"):
        await run
    assert len(client.written) == 3


async def test_stopping_at_the_end() -> None:
    """A stream that was read to its end succeeds although the server is stopping."""
    client = StreamClient(2)
    stream = client.stream(lambda _: 0.02)
    run = asyncio.create_task(client.run(stream))
    await eventually(lambda: client.active == 2)
    await asyncio.sleep(0.001)
    stream.stop()
    await run
    assert len(client.written) == 2


async def test_nothing_is_kept_between_requests() -> None:
    """While a stream waits for its next request, the last one and its reply are not in memory."""

    class Message:
        pass

    messages: WeakSet[Message] = WeakSet()

    async def requests() -> AsyncIterator[Message]:
        yield Message()
        await asyncio.Event().wait()

    async def reply(request: Message) -> Message:
        messages.add(request)
        answer = Message()
        messages.add(answer)
        return answer

    async def handler_for(first: Message) -> ChunkHandler[Message, Message]:
        return reply

    async with aclosing(ChunkStream(requests(), handler_for).replies()) as replies:
        await anext(replies)
        following = asyncio.create_task(anext(replies))
        await eventually(lambda: len(messages) == 0)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
