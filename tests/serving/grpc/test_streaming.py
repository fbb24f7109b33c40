"""Tests of `partedvae.serving.grpc.streaming` with requests that are numbers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from partedvae.serving.errors import InvalidInputError, StoppingError
from partedvae.serving.grpc.streaming import MAX_PENDING_CHUNKS, ChunkHandler, ChunkStream
from tests.serving.gated_batches import eventually


class Caller:
    """Sends numbers and takes answers; can stop doing either."""

    def __init__(self, count: int, *, ends: bool = True) -> None:
        self.sent: list[int] = []
        self.written: list[str] = []
        self.under_way = 0
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

    def stream(self, work: Callable[[int], float] = lambda _: 0.0) -> ChunkStream[int, str]:
        """Make a stream whose n-th answer takes as many seconds as `work` says."""

        async def answer(number: int) -> str:
            self.under_way += 1
            try:
                await asyncio.sleep(work(number))
            finally:
                self.under_way -= 1
            return f"answer {number}"

        async def handler_for(first: int) -> ChunkHandler[int, str]:
            return answer

        return ChunkStream(self.requests(), handler_for, self.write)


async def test_in_order() -> None:
    """Answers are written in the order of the requests, though later ones are ready first."""
    caller = Caller(20)
    await caller.stream(lambda number: 0.02 if number % 3 == 0 else 0.0).run()
    assert caller.written == [f"answer {number}" for number in range(20)]


async def test_no_requests() -> None:
    """A stream that ends before it begins has no answers and no error."""
    caller = Caller(0)
    await caller.stream().run()
    assert caller.written == []


async def test_a_slow_reader() -> None:
    """While answers cannot be written, no more than a few requests are read."""
    caller = Caller(100)
    caller.reads.clear()
    run = asyncio.create_task(caller.stream().run())
    await eventually(lambda: len(caller.sent) == MAX_PENDING_CHUNKS)
    await asyncio.sleep(0.05)
    assert len(caller.sent) == MAX_PENDING_CHUNKS
    caller.reads.set()
    await run
    assert len(caller.written) == 100


async def test_a_caller_that_vanishes() -> None:
    """What is under way for a stream that is cancelled is cancelled too, and nothing more is read."""
    caller = Caller(100)
    run = asyncio.create_task(caller.stream(lambda _: 3600).run())
    await eventually(lambda: caller.under_way == MAX_PENDING_CHUNKS)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert caller.under_way == 0
    assert len(caller.sent) == MAX_PENDING_CHUNKS


async def test_a_request_that_fails() -> None:
    """The answers before it are written, its error ends the stream, and those after it are given up."""
    caller = Caller(10)

    async def answer(number: int) -> str:
        if number == 2:
            raise InvalidInputError("two is bad")
        if number > 2:
            await asyncio.Event().wait()
        return f"answer {number}"

    async def handler_for(first: int) -> ChunkHandler[int, str]:
        return answer

    with pytest.raises(InvalidInputError, match="two is bad"):
        await ChunkStream(caller.requests(), handler_for, caller.write).run()
    assert caller.written == ["answer 0", "answer 1"]


async def test_a_first_request_that_fails() -> None:
    """What the first request asks for may not be there."""
    caller = Caller(3)

    async def handler_for(first: int) -> ChunkHandler[int, str]:
        raise InvalidInputError(f"nothing begins with {first}")

    with pytest.raises(InvalidInputError, match="nothing begins with 0"):
        await ChunkStream(caller.requests(), handler_for, caller.write).run()
    assert caller.written == []


async def test_requests_that_cannot_be_read() -> None:
    """What reading raises ends the stream after the answers of what was read."""
    caller = Caller(0)

    async def requests() -> AsyncIterator[int]:
        yield 0
        raise InvalidInputError("no message")

    async def handler_for(first: int) -> ChunkHandler[int, str]:
        async def answer(number: int) -> str:
            return f"answer {number}"

        return answer

    with pytest.raises(InvalidInputError, match="no message"):
        await ChunkStream(requests(), handler_for, caller.write).run()
    assert caller.written == ["answer 0"]


async def test_stopping() -> None:
    """When the server stops, what was read is answered, and the caller learns how much of its stream that is."""
    caller = Caller(3, ends=False)
    stream = caller.stream(lambda number: 0.02)
    run = asyncio.create_task(stream.run())
    await eventually(lambda: caller.under_way == 3)
    stream.stop()
    with pytest.raises(StoppingError, match="the first 3 requests of the stream have replies; send the rest again"):
        await run
    assert len(caller.written) == 3


async def test_stopping_at_the_end() -> None:
    """A stream that was read to its end ends well though the server stops meanwhile."""
    caller = Caller(2)
    stream = caller.stream(lambda _: 0.02)
    run = asyncio.create_task(stream.run())
    await eventually(lambda: caller.under_way == 2)
    await asyncio.sleep(0.001)
    stream.stop()
    await run
    assert len(caller.written) == 2
