"""Tests of `partedvae.serving.memory_budget`."""

from __future__ import annotations

import asyncio
import random
import re

import pytest

from partedvae.serving.errors import InvalidInputError, MemoryLimitError
from partedvae.serving.memory_budget import MIB, MemoryBudget, MemoryPool
from partedvae.serving.request_memory import RequestMemory
from tests.processes import PATIENCE


async def settle() -> None:
    """Let all tasks run until they wait."""
    for _ in range(20):
        await asyncio.sleep(0)


class Waiters:
    """Tasks that wait for a pool, and the order in which they are admitted."""

    def __init__(self, pool: MemoryPool) -> None:
        self.pool = pool
        self.admitted: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def add(self, name: str, size: int, owner: str | None = None) -> asyncio.Task[None]:
        """Start to wait, as `owner` or as the first letter of the name."""

        async def wait() -> None:
            await self.pool.wait(size, owner or name[0])
            self.admitted.append(name)

        self.tasks[name] = task = asyncio.create_task(wait())
        await settle()
        return task


def test_reserve() -> None:
    """A size is reserved while it fits; the error states what is held, and when to try again."""
    pool = MemoryPool(1000)
    pool.reserve(600)
    pool.reserve(400)
    with pytest.raises(
        MemoryLimitError, match=re.escape("other requests hold 1,000 of 1,000 bytes of memory")
    ) as caught:
        pool.reserve(100)
    assert caught.value.retry_after == 0.5
    assert pool.is_short
    pool.release(400)
    pool.reserve(100)
    assert pool.reserved == 700


def test_a_size_above_the_limit() -> None:
    """What can never be reserved is the request's fault, whatever else is reserved."""
    pool = MemoryPool(10 * MIB)
    pool.reserve(pool.limit)
    with pytest.raises(InvalidInputError) as caught:
        pool.reserve(11 * MIB)
    assert str(caught.value) == (
        "the request needs 11.0 MiB of memory, above the limit of 10.0 MiB; send fewer or smaller images per request, "
        "or start the server with a larger --memory-mb"
    )
    assert not pool.is_short
    assert pool.reserved == pool.limit


async def test_a_size_above_the_limit_does_not_wait() -> None:
    pool = MemoryPool(1000)
    with pytest.raises(InvalidInputError, match="above the limit"):
        await pool.wait(1001)
    assert pool.waiting == 0


def test_small_requests_beside_large_ones() -> None:
    """Small requests get an eighth more, and no more."""
    pool = MemoryPool(256 * 8)
    pool.reserve(pool.limit)
    for _ in range(32):
        pool.reserve(8)
    with pytest.raises(MemoryLimitError):
        pool.reserve(8)
    assert pool.reserved == pool.limit + pool.limit // 8


async def test_owners_take_turns() -> None:
    """Requests of one owner are served in order, and those of several in turn."""
    pool = MemoryPool(1000)
    pool.reserve(1000)
    waiters = Waiters(pool)
    for name in ("a1", "a2", "a3", "b1", "c1"):
        await waiters.add(name, 100)
    pool.release(1000)
    await settle()
    assert waiters.admitted == ["a1", "b1", "c1", "a2", "a3"]
    assert (pool.reserved, pool.waiting) == (500, 0)


async def test_a_large_request_is_not_overtaken() -> None:
    """Later, smaller requests wait behind the one that does not fit yet."""
    pool = MemoryPool(1000)
    pool.reserve(800)
    waiters = Waiters(pool)
    await waiters.add("large", 400)
    await waiters.add("small", 50)
    assert waiters.admitted == []
    pool.release(500)
    await settle()
    assert waiters.admitted == ["large", "small"]


async def test_what_waits_takes_half() -> None:
    """Requests that wait do not take all capacity from those that do not, and the other way round."""
    pool = MemoryPool(1000)
    waiters = Waiters(pool)
    for name in ("a", "b", "c"):
        await waiters.add(name, 250)
    assert (waiters.admitted, pool.waiting) == (["a", "b"], 1)
    pool.reserve(500)
    with pytest.raises(MemoryLimitError):
        pool.reserve(100)
    pool.release(500)
    assert waiters.admitted == ["a", "b"]
    pool.release(250, waited=True)
    await settle()
    assert waiters.admitted == ["a", "b", "c"]


async def test_half_is_kept_for_what_waits() -> None:
    """While a request waits, those that do not may hold half, so that it is admitted."""
    pool = MemoryPool(1000)
    for _ in range(10):
        pool.reserve(100)
    waiters = Waiters(pool)
    await waiters.add("a", 500)
    for _ in range(5):
        pool.release(100)
        if not waiters.tasks["a"].done():
            with pytest.raises(MemoryLimitError):
                pool.reserve(100)
        await settle()
    assert waiters.admitted == ["a"]
    pool.release(100)
    pool.reserve(100)


async def test_a_request_of_more_than_half() -> None:
    """A request that needs more than half is admitted while no other waiting request is."""
    pool = MemoryPool(1000)
    waiters = Waiters(pool)
    await waiters.add("a", 400)
    await waiters.add("b", 1000)
    assert waiters.admitted == ["a"]
    pool.release(400, waited=True)
    await settle()
    assert waiters.admitted == ["a", "b"]
    assert pool.reserved == 1000


async def test_what_waits_is_limited() -> None:
    """One request may wait whatever its size; more of them up to half of the limit, or the limit if they are small."""
    pool = MemoryPool(1000)
    pool.reserve(1000)
    waiters = Waiters(pool)
    await waiters.add("a", 300)
    await waiters.add("b", 200)
    with pytest.raises(MemoryLimitError):
        await pool.wait(4)
    assert pool.waiting == 2
    for task in waiters.tasks.values():
        task.cancel()
    await settle()
    await waiters.add("c", 900)
    assert pool.waiting == 1
    pool.release(1000)
    await settle()
    assert waiters.admitted == ["c"]


async def test_a_cancelled_request_admits_those_behind_it() -> None:
    pool = MemoryPool(1000)
    pool.reserve(900)
    waiters = Waiters(pool)
    first = await waiters.add("a", 300)
    await waiters.add("b", 100)
    first.cancel()
    await settle()
    assert waiters.admitted == ["b"]
    assert (pool.reserved, pool.waiting) == (1000, 0)


@pytest.mark.parametrize("is_released_first", [True, False])
async def test_cancelled_at_the_moment_of_admission(is_released_first: bool) -> None:
    """Whichever comes first, nothing stays reserved."""
    pool = MemoryPool(1000)
    pool.reserve(1000)
    waiters = Waiters(pool)
    task = await waiters.add("a", 300)
    if is_released_first:
        pool.release(1000)
        task.cancel()
    else:
        task.cancel()
        pool.release(1000)
    await settle()
    assert task.cancelled()
    assert (waiters.admitted, pool.reserved, pool.waiting) == ([], 0, 0)
    await pool.wait(1000)


async def test_random_orders_of_events() -> None:
    """After any order of requests, refusals, cancellations and releases nothing is reserved, and nobody waits."""
    source = random.Random(11)
    pool = MemoryPool(10_000)
    most = pool.limit + pool.limit // 8
    held: list[tuple[int, bool]] = []
    waiting: list[asyncio.Task[None]] = []
    refused = admitted = 0

    async def wait(size: int, owner: int) -> None:
        await pool.wait(size, owner)
        held.append((size, True))

    for _ in range(4000):
        size = source.choice((1, 30, 500, 3000, 9000))
        match source.randrange(5):
            case 0:
                try:
                    pool.reserve(size)
                    held.append((size, False))
                except MemoryLimitError:
                    refused += 1
            case 1:
                waiting.append(asyncio.create_task(wait(size, source.randrange(4))))
            case 2 if waiting:
                waiting.pop(source.randrange(len(waiting))).cancel()
            case 3 if held:
                released, waited = held.pop(source.randrange(len(held)))
                pool.release(released, waited=waited)
                admitted += waited
            case _:
                await asyncio.sleep(0)
        assert 0 <= pool.reserved <= most
    while held or pool.waiting:
        if held:
            released, waited = held.pop()
            pool.release(released, waited=waited)
        await settle()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(result is None or isinstance(result, MemoryLimitError) for result in results)
    assert refused > 100
    assert admitted > 100
    assert (pool.reserved, pool.waiting) == (0, 0)
    pool.reserve(pool.limit)
    pool.release(pool.limit)
    await pool.wait(pool.limit)


async def test_request_memory() -> None:
    """A request holds what it reserved of each pool, until it returns a part or everything."""
    budget = MemoryBudget(4500)
    first, second = RequestMemory(budget), RequestMemory(budget)
    first.reserve_message(300)
    await second.wait_for_message(400)
    first.reserve(500)
    await second.wait(600)
    assert (budget.messages.reserved, budget.work.reserved) == (700, 1100)
    first.give_back(100)
    second.give_back(200)
    first.give_back_message(100)
    second.give_back_message(100)
    assert (budget.messages.reserved, budget.work.reserved) == (500, 800)
    first.release_message()
    assert (budget.messages.reserved, budget.work.reserved) == (300, 800)
    for memory in (first, second, first, second):
        memory.release()
        memory.give_back(10)  # Of a task that goes on although its call has ended.
        memory.give_back_message(10)
    assert (budget.messages.reserved, budget.work.reserved) == (0, 0)
    # All of it can be waited for again, so that what was waited for is not counted any more.
    await budget.work.wait(2000)
    await budget.messages.wait(1000)


async def test_requests_of_a_stream_get_memory_in_their_order() -> None:
    """A later request never holds what an earlier one waits for, because its reply is sent after it."""
    budget = MemoryBudget(4000)
    requests = [RequestMemory(budget, "a")]
    for _ in range(3):
        requests.append(RequestMemory(budget, "a", requests[-1]))
    order: list[int] = []

    async def serve(index: int, size: int) -> None:
        await requests[index].wait(size)
        order.append(index)

    tasks = [asyncio.create_task(serve(index, 600)) for index in (3, 2, 1)]
    await settle()
    assert (order, budget.work.reserved) == ([], 0)
    tasks.append(asyncio.create_task(serve(0, 900)))
    await settle()
    assert order == [0]
    for index in range(4):
        assert order == list(range(index + 1))
        requests[index].release()
        await settle()
    assert (budget.work.reserved, budget.work.waiting) == (0, 0)
    await asyncio.gather(*tasks)


async def test_a_request_that_ends_lets_the_next_one_wait() -> None:
    """Requests that need no memory, or are cancelled, do not keep the next one of their stream from it."""
    budget = MemoryBudget(4000)
    first = RequestMemory(budget)
    second = RequestMemory(budget, before=first)
    third = RequestMemory(budget, before=second)
    last = asyncio.create_task(third.wait(10))
    cancelled = asyncio.create_task(second.wait(10))
    await settle()
    cancelled.cancel()
    await settle()
    assert last.done()
    first.release()
    assert budget.work.reserved == 10


async def test_report() -> None:
    """An observer gets the state of both pools."""
    budget = MemoryBudget(4000)
    RequestMemory(budget).reserve_message(10)
    RequestMemory(budget).reserve(20)
    reported: dict[str, int] = {}

    class Observer:
        def memory_reserved(self, kind: str, size: int) -> None:
            reported[kind] = size

    budget.report(Observer())
    assert reported == {"messages": 10, "work": 20}


async def test_small_requests_pass_a_large_one_that_waits() -> None:
    """Streams of single images go on while a large chunk of another connection waits for the memory of a third."""
    pool = MemoryPool(2560)
    pool.reserve(2000)
    large = asyncio.create_task(pool.wait(1200, "large"))
    await asyncio.sleep(0)
    for _ in range(3):
        await asyncio.wait_for(pool.wait(10, "small"), PATIENCE)
    assert not large.done()
    pool.release(2000)
    await asyncio.wait_for(large, PATIENCE)
    assert pool.reserved == 1230
