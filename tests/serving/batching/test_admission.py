"""Tests of admission through the batcher: refused, or waiting in line."""

from __future__ import annotations

import asyncio

import pytest

from partedvae.serving.batching.admission import Admission
from partedvae.serving.batching.scheduler import BatchPolicy
from partedvae.serving.errors import OverloadedError
from tests.serving.gated_batches import Doubler, bench, eventually, held


async def test_a_full_queue_refuses() -> None:
    """Who cannot wait is told at once how much waits, the limit, and when to try again; room lets callers in again."""
    run = Doubler(gated=True)
    async with held(run, max_queue_rows=8) as made:
        requests = [made.ask([1] * 4), made.ask([2] * 7)]  # Let in while there is any room.
        await eventually(lambda: made.batcher.waiting_rows == 11)
        with pytest.raises(
            OverloadedError, match=r"11 images are already waiting, the limit is 8: try again in"
        ) as caught:
            await made.ask([3])
        assert (caught.value.waiting, caught.value.limit) == (11, 8)
        assert caught.value.retry_after == BatchPolicy().default_retry_after, "no batch has told the rate yet"
        requests[1].cancel()
        await eventually(lambda: made.batcher.waiting_rows == 4)
        requests.append(made.ask([3]))
        await eventually(lambda: made.batcher.waiting_rows == 5)
        run.gate.set()
        assert (await requests[2])[0].tolist() == [6]


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


async def test_the_patient_wait_for_room() -> None:
    """Streams fill half of the queue and stand in line for more, first come, first served; nobody is refused."""
    run = Doubler(gated=True)
    async with held(run, max_queue_rows=4, max_batch_rows=2) as made:
        patient = [made.ask([number], blocking=True) for number in range(1, 7)]
        await eventually(lambda: made.batcher.waiting_rows == 2)
        impatient = [made.ask([10]), made.ask([11])]  # The other half is for those who cannot wait.
        await eventually(lambda: made.batcher.waiting_rows == 4)
        with pytest.raises(OverloadedError):
            await made.ask([12])
        run.gate.set()
        answers = [(await request)[0].tolist() for request in (*patient, *impatient)]
        assert answers == [[2], [4], [6], [8], [10], [12], [20], [22]]
        patient_order = [number for batch in run.batches for number in batch if 0 < number < 10]
        assert patient_order == [1, 2, 3, 4, 5, 6]


async def test_the_impatient_do_not_shut_out_the_patient() -> None:
    """A queue that is full of requests that cannot wait still takes rows of those that can."""
    run = Doubler(gated=True)
    async with held(run, max_queue_rows=4) as made:
        impatient = [made.ask([1]) for _ in range(4)]
        await eventually(lambda: made.batcher.waiting_rows == 4)
        patient = made.ask([2], blocking=True)
        await eventually(lambda: made.batcher.waiting_rows == 5)
        run.gate.set()
        await asyncio.gather(*impatient, patient)


async def test_cancelled_in_line() -> None:
    """Who gives up while standing in line leaves it, and the next one moves up."""
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


async def test_cancelled_in_the_moment_of_its_turn() -> None:
    """A caller whose turn has come and who is cancelled before it runs gives its room back."""
    run = Doubler(gated=True)
    async with held(run, max_queue_rows=2) as made:
        first, second, third = (made.ask([number], blocking=True) for number in (1, 2, 3))
        await eventually(lambda: made.batcher.waiting_rows == 1)
        first.cancel()  # At the next turn of the loop the second is let in …
        await asyncio.sleep(0)
        second.cancel()  # … and gives up before it goes on.
        await asyncio.gather(first, second, return_exceptions=True)
        await eventually(lambda: made.batcher.waiting_rows == 1)
        run.gate.set()
        assert (await third)[0].tolist() == [6]
        assert [2.0] not in run.batches


async def test_a_place_in_line_is_given_up_in_the_moment_that_room_comes() -> None:
    """The caller is cancelled and has not run again yet: the room goes to the next, and nothing is counted twice."""
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
    # The other way round: room first, and gone before it could be taken.
    await admission.acquire(2)
    late = asyncio.create_task(admission.acquire(3))
    await asyncio.sleep(0)
    admission.release(2, blocking=True)
    assert admission.rows == 3
    late.cancel()
    await asyncio.wait([late])
    assert late.cancelled()
    assert admission.rows == 0
