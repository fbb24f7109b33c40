"""Tests of admission through the batcher: non-blocking callers are refused, blocking ones wait."""

from __future__ import annotations

import asyncio

import pytest

from partedvae.serving.batching.admission import Admission
from partedvae.serving.batching.scheduler import BatchPolicy
from partedvae.serving.errors import OverloadedError
from tests.serving.gated_batches import Doubler, bench, eventually, held


async def test_a_full_queue_refuses() -> None:
    """A non-blocking caller fails at once, with the waiting rows, the limit and when to retry."""
    run = Doubler(gated=True)
    async with held(run, max_queue_rows=8) as made:
        requests = [made.ask([1] * 4), made.ask([2] * 7)]  # Admitted while there is any capacity.
        await eventually(lambda: made.batcher.waiting_rows == 11)
        with pytest.raises(
            OverloadedError, match=r"11 images are already waiting, the limit is 8: try again in"
        ) as caught:
            await made.ask([3])
        assert caught.value.retry_after == BatchPolicy().default_retry_after, "no batch has been run yet"
        requests[1].cancel()
        await eventually(lambda: made.batcher.waiting_rows == 4)
        requests.append(made.ask([3]))
        await eventually(lambda: made.batcher.waiting_rows == 5)
        run.gate.set()
        assert (await requests[2])[0].tolist() == [6]


def test_several_callers_at_once() -> None:
    """They are admitted if each of them would be: the last one, while there is any capacity left."""
    admission = Admission(8, lambda: 1.0)
    admission.try_acquire(6, callers=6)
    with pytest.raises(OverloadedError, match="6 images are already waiting, the limit is 8"):
        admission.try_acquire(3, callers=3)
    with pytest.raises(OverloadedError):
        admission.try_acquire(9, callers=3)
    admission.try_acquire(2, callers=2)
    assert admission.rows == 8
    small = Admission(64, lambda: 1.0)
    small.try_acquire(128, callers=128)  # Small callers have twice the limit.
    with pytest.raises(OverloadedError):
        small.try_acquire(2, callers=2)


async def test_retry_after_comes_from_the_rate() -> None:
    """With batches behind it, the estimate is more than nothing and far below the longest."""
    run = Doubler()
    async with bench(run, max_queue_rows=4) as made:
        await made.ask(range(4))
        run.gate.clear()
        holds = made.ask([0])
        await eventually(lambda: len(run.batches) == 2)
        waits = made.ask(range(4))
        await eventually(lambda: made.batcher.waiting_rows == 4)
        with pytest.raises(OverloadedError) as caught:
            await made.ask([1])
        assert 0 < caught.value.retry_after < BatchPolicy().default_retry_after
        run.gate.set()
        await asyncio.gather(holds, waits)


async def test_blocking_callers_wait_for_capacity() -> None:
    """Streams fill half of the queue and wait for more capacity, first come, first served; none is refused."""
    run = Doubler(gated=True)
    async with held(run, max_queue_rows=4, max_batch_rows=2) as made:
        blocking = [made.ask([number], blocking=True) for number in range(1, 7)]
        await eventually(lambda: made.batcher.waiting_rows == 2)
        others = [made.ask([10]), made.ask([11])]  # The other half is for non-blocking callers.
        await eventually(lambda: made.batcher.waiting_rows == 4)
        with pytest.raises(OverloadedError):
            await made.ask([12])
        run.gate.set()
        answers = [(await request)[0].tolist() for request in (*blocking, *others)]
        assert answers == [[2], [4], [6], [8], [10], [12], [20], [22]]
        blocking_order = [number for batch in run.batches for number in batch if 0 < number < 10]
        assert blocking_order == [1, 2, 3, 4, 5, 6]


async def test_non_blocking_callers_do_not_starve_blocking_ones() -> None:
    """A queue full of non-blocking requests still admits rows of blocking ones."""
    run = Doubler(gated=True)
    async with held(run, max_queue_rows=4) as made:
        others = [made.ask([1]) for _ in range(4)]
        await eventually(lambda: made.batcher.waiting_rows == 4)
        blocking = made.ask([2], blocking=True)
        await eventually(lambda: made.batcher.waiting_rows == 5)
        run.gate.set()
        await asyncio.gather(*others, blocking)


async def test_cancelled_while_waiting_for_capacity() -> None:
    """A cancelled waiter leaves the queue of waiters, and the next one is admitted."""
    run = Doubler(gated=True)
    async with held(run, max_queue_rows=2) as made:
        requests = [made.ask([number], blocking=True) for number in (1, 2, 3)]
        await eventually(lambda: made.batcher.waiting_rows == 1)
        requests[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await requests[1]
        requests[0].cancel()
        await eventually(lambda: requests[0].cancelled() and made.batcher.waiting_rows == 1)
        run.gate.set()
        assert (await requests[2])[0].tolist() == [6]
        assert made.batcher.waiting_rows == 0


async def test_cancelled_just_after_admission() -> None:
    """A caller that is admitted, and cancelled before it runs again, releases its capacity."""
    run = Doubler(gated=True)
    async with held(run, max_queue_rows=2) as made:
        first, second, third = (made.ask([number], blocking=True) for number in (1, 2, 3))
        await eventually(lambda: made.batcher.waiting_rows == 1)
        first.cancel()  # At the next turn of the loop the second is admitted …
        await asyncio.sleep(0)
        second.cancel()  # … and is cancelled before it runs.
        await asyncio.gather(first, second, return_exceptions=True)
        await eventually(lambda: made.batcher.waiting_rows == 1)
        run.gate.set()
        assert (await third)[0].tolist() == [6]
        assert [2.0] not in run.batches


async def test_cancelled_just_before_admission() -> None:
    """A cancelled caller that has not run since is skipped: the next is admitted, and nothing is counted twice."""
    admission = Admission(4, lambda: BatchPolicy().default_retry_after)
    await admission.acquire(2)
    gone, following = (asyncio.create_task(admission.acquire(rows)) for rows in (3, 1))
    await asyncio.sleep(0)
    gone.cancel()
    admission.release(2, blocking=True)
    await following
    assert gone.cancelled()
    assert admission.rows == 1
    admission.release(1, blocking=True)
    # The other order: admitted first, and cancelled before it runs.
    await admission.acquire(2)
    late = asyncio.create_task(admission.acquire(3))
    await asyncio.sleep(0)
    admission.release(2, blocking=True)
    assert admission.rows == 3
    late.cancel()
    await asyncio.wait([late])
    assert late.cancelled()
    assert admission.rows == 0
