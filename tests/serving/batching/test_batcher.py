"""Tests of the batcher, admission and slots of `serving.batching` with a graph that can be held."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from serving.batching.batcher import MIN_SHARE, UNKNOWN_WAIT, BatchPolicy
from serving.batching.slots import ENOUGH_ROWS
from serving.errors import OverloadedError
from tests.serving.gated_batches import Bench, Doubler, eventually


@asynccontextmanager
async def bench(run: Doubler, **policy: float) -> AsyncIterator[Bench]:
    made = Bench(run, BatchPolicy(**policy))  # type: ignore[arg-type]  # whole numbers where it wants them
    try:
        yield made
    finally:
        made.close()


@asynccontextmanager
async def held(run: Doubler, **policy: float) -> AsyncIterator[Bench]:
    """Yield a bench whose only session is held by a request for the number 0."""
    async with bench(run, **policy) as made:
        first = made.ask([0])
        await eventually(lambda: run.batches == [[0]])
        try:
            yield made
        finally:
            run.gate.set()
            await asyncio.wait_for(asyncio.gather(first, return_exceptions=True), 60)


def test_what_waits_becomes_one_batch() -> None:
    """While a session runs, requests gather; the next run takes them all, and each gets its own rows."""

    async def scenario() -> None:
        run = Doubler(gated=True)
        async with held(run) as made:
            requests = [made.ask(numbers) for numbers in ([1], [2, 3], [4])]
            await eventually(lambda: made.batcher.waiting_rows == 4)
            run.gate.set()
            assert [(await request)[0].tolist() for request in requests] == [[2], [4, 6], [8]]
            assert run.batches == [[0], [1, 2, 3, 4]]

    asyncio.run(scenario())


def test_requests_of_one_turn_share_a_batch() -> None:
    """Requests that arrive together go together even where nothing was under way."""

    async def scenario() -> None:
        run = Doubler()
        async with bench(run) as made:
            await asyncio.gather(*(made.ask([number]) for number in range(8)))
            assert run.batches == [list(range(8))]

    asyncio.run(scenario())


def test_requests_of_a_few_turns_share_a_batch() -> None:
    """An idle session lets the loop go round for what has arrived already."""

    async def scenario() -> None:
        run = Doubler()
        async with bench(run) as made:
            requests = []
            for number in range(4):
                requests.append(made.ask([number]))
                await asyncio.sleep(0)
            await asyncio.gather(*requests)
            assert run.batches == [[0, 1, 2, 3]]

    asyncio.run(scenario())


@pytest.mark.parametrize("rows", [1, ENOUGH_ROWS])
def test_a_run_under_way_holds_nobody_for_long(rows: int) -> None:
    """Many rows or few: a free session takes them though another run does not end."""

    async def scenario() -> None:
        run = Doubler(gated=True)
        async with held(run, sessions=2) as made:
            request = made.ask(range(rows))
            await eventually(lambda: run.batches[1:] == [list(range(rows))])
            run.gate.set()
            assert (await request)[0].tolist() == [2 * number for number in range(rows)]

    asyncio.run(scenario())


def test_different_outputs_share_a_batch() -> None:
    """The batch computes the union, and each caller gets what it asked for, in its own order."""

    async def scenario() -> None:
        run = Doubler(gated=True)
        async with held(run) as made:
            one = made.ask([1], ("negative",))
            both = made.ask([2, 3], ("double", "negative"))
            other = made.ask([4], ("double",))
            await eventually(lambda: made.batcher.waiting_rows == 4)
            run.gate.set()
            assert [column.tolist() for column in await one] == [[-1]]
            assert [column.tolist() for column in await both] == [[4, 6], [-2, -3]]
            assert [column.tolist() for column in await other] == [[8]]
            assert run.outputs[1:] == [("negative", "double")]

    asyncio.run(scenario())


def test_large_requests_are_divided() -> None:
    """A request above the largest batch takes several, joined again in order; a small one need not wait for its end."""

    async def scenario() -> None:
        run = Doubler(gated=True)
        async with held(run, max_batch_rows=20) as made:
            large = made.ask(range(1, 71))
            small = made.ask([100] * 5)
            await eventually(lambda: made.batcher.waiting_rows == 75)
            run.gate.set()
            (doubled,) = await large
            assert doubled.tolist() == [2 * number for number in range(1, 71)]
            assert (await small)[0].tolist() == [200] * 5
            assert all(len(batch) <= 20 for batch in run.batches)
            assert run.batches[1] == list(range(1, 21))
            assert run.batches[2] == [100] * 5 + list(range(21, 36)), "the large one gives way after each cut"

    asyncio.run(scenario())


def test_requests_that_fit_are_not_cut() -> None:
    """A request that fits into a batch is not torn to fill up the one before it."""

    async def scenario() -> None:
        run = Doubler(gated=True)
        async with held(run, max_batch_rows=20) as made:
            requests = [made.ask([number] * 15) for number in (1, 2)]
            await eventually(lambda: made.batcher.waiting_rows == 30)
            run.gate.set()
            await asyncio.gather(*requests)
            assert run.batches == [[0], [1] * 15, [2] * 15]

    asyncio.run(scenario())


def test_idle_sessions_share_a_request() -> None:
    """Where two sessions are free, one request is run on both, unless it is too small for that to pay."""

    async def scenario() -> None:
        run = Doubler()
        async with bench(run, sessions=2) as made:
            await made.ask(range(2 * MIN_SHARE))
            assert sorted(map(len, run.batches)) == [MIN_SHARE, MIN_SHARE]
            run.batches.clear()
            await made.ask(range(MIN_SHARE))
            assert run.batches == [list(range(MIN_SHARE))]

    asyncio.run(scenario())


def test_cancelled_before_its_batch_starts() -> None:
    """Its rows leave the queue at once and are not computed; the others of its batch are answered."""

    async def scenario() -> None:
        run = Doubler(gated=True)
        async with held(run) as made:
            requests = [made.ask([number, number]) for number in range(1, 5)]
            await eventually(lambda: made.batcher.waiting_rows == 8)
            requests[1].cancel()
            with pytest.raises(asyncio.CancelledError):
                await requests[1]
            assert made.batcher.waiting_rows == 6
            run.gate.set()
            for index in (0, 2, 3):
                assert (await requests[index])[0].tolist() == [2 * (index + 1)] * 2
            assert run.batches == [[0], [1, 1, 3, 3, 4, 4]]

    asyncio.run(scenario())


def test_cancelled_while_its_batch_runs() -> None:
    """Its result is dropped; the others of its batch are answered."""

    async def scenario() -> None:
        run = Doubler(gated=True)
        async with bench(run) as made:
            requests = [made.ask([number]) for number in range(4)]
            await eventually(lambda: run.batches == [[0, 1, 2, 3]])
            requests[2].cancel()
            with pytest.raises(asyncio.CancelledError):
                await requests[2]
            run.gate.set()
            assert [(await requests[index])[0].tolist() for index in (0, 1, 3)] == [[0], [2], [6]]

    asyncio.run(scenario())


def test_cancelled_half_way() -> None:
    """The rest of a large request that was cancelled is not computed."""

    async def scenario() -> None:
        run = Doubler(gated=True)
        async with bench(run, max_batch_rows=10) as made:
            large = made.ask(range(1000))
            await eventually(lambda: len(run.batches) == 1)
            assert made.batcher.waiting_rows == 990
            large.cancel()
            with pytest.raises(asyncio.CancelledError):
                await large
            assert made.batcher.waiting_rows == 0
            run.gate.set()
            await made.ask([5])
            assert run.batches == [list(range(10)), [5]]

    asyncio.run(scenario())


def test_one_bad_request_in_a_batch() -> None:
    """Where a batch fails, each of its requests is run by itself, and only the bad one gets the error."""

    async def scenario() -> None:
        run = Doubler(gated=True, bad=13)
        async with held(run) as made:
            requests = [made.ask([number], outputs) for number, outputs in ((1, ("double",)), (13, ("negative",)))]
            requests.append(made.ask([2], ("negative", "double")))
            await eventually(lambda: made.batcher.waiting_rows == 3)
            run.gate.set()
            assert [column.tolist() for column in await requests[0]] == [[2]]
            with pytest.raises(ArithmeticError, match="13 is bad"):
                await requests[1]
            assert [column.tolist() for column in await requests[2]] == [[-2], [4]]

    asyncio.run(scenario())


def test_a_failing_part_ends_its_request() -> None:
    """The rest of a divided request is not computed once a part of it has failed."""

    async def scenario() -> None:
        run = Doubler(bad=3)
        async with bench(run, max_batch_rows=5) as made:
            with pytest.raises(ArithmeticError, match="3 is bad"):
                await made.ask(range(500))
            assert made.batcher.waiting_rows == 0
            assert len(run.batches) < 10

    asyncio.run(scenario())


def test_a_full_queue_refuses() -> None:
    """Who cannot wait is told at once how much waits, the limit, and when to try again; room lets callers in again."""

    async def scenario() -> None:
        run = Doubler(gated=True)
        async with held(run, max_queue_rows=8) as made:
            requests = [made.ask([1] * 4), made.ask([2] * 7)]  # Let in while there is any room.
            await eventually(lambda: made.batcher.waiting_rows == 11)
            with pytest.raises(
                OverloadedError, match=r"11 images wait already, the limit is 8: try again in"
            ) as caught:
                await made.ask([3])
            assert (caught.value.waiting, caught.value.limit) == (11, 8)
            assert caught.value.retry_after == UNKNOWN_WAIT, "no batch has told the rate yet"
            requests[1].cancel()
            await eventually(lambda: made.batcher.waiting_rows == 4)
            requests.append(made.ask([3]))
            await eventually(lambda: made.batcher.waiting_rows == 5)
            run.gate.set()
            assert (await requests[2])[0].tolist() == [6]

    asyncio.run(scenario())


def test_retry_after_comes_from_the_rate() -> None:
    """With batches behind it, the estimate is more than nothing and far below the longest."""

    async def scenario() -> None:
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
            assert 0 < caught.value.retry_after < UNKNOWN_WAIT
            run.gate.set()
            await asyncio.gather(holds, waits)

    asyncio.run(scenario())


def test_the_patient_wait_for_room() -> None:
    """Streams fill half of the queue and stand in line for more, first come, first served; nobody is refused."""

    async def scenario() -> None:
        run = Doubler(gated=True)
        async with held(run, max_queue_rows=4, max_batch_rows=2) as made:
            patient = [made.ask([number], wait=True) for number in range(1, 7)]
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

    asyncio.run(scenario())


def test_the_impatient_do_not_shut_out_the_patient() -> None:
    """A queue that is full of requests that cannot wait still takes rows of those that can."""

    async def scenario() -> None:
        run = Doubler(gated=True)
        async with held(run, max_queue_rows=4) as made:
            impatient = [made.ask([1]) for _ in range(4)]
            await eventually(lambda: made.batcher.waiting_rows == 4)
            patient = made.ask([2], wait=True)
            await eventually(lambda: made.batcher.waiting_rows == 5)
            run.gate.set()
            await asyncio.gather(*impatient, patient)

    asyncio.run(scenario())


def test_cancelled_in_line() -> None:
    """Who gives up while standing in line leaves it, and the next one moves up."""

    async def scenario() -> None:
        run = Doubler(gated=True)
        async with held(run, max_queue_rows=2) as made:
            requests = [made.ask([number], wait=True) for number in (1, 2, 3)]
            await eventually(lambda: made.batcher.waiting_rows == 1)
            requests[1].cancel()
            with pytest.raises(asyncio.CancelledError):
                await requests[1]
            requests[0].cancel()
            await eventually(lambda: requests[0].cancelled() and made.batcher.waiting_rows == 1)
            run.gate.set()
            assert (await requests[2])[0].tolist() == [6]
            assert made.batcher.waiting_rows == 0

    asyncio.run(scenario())


def test_cancelled_in_the_moment_of_its_turn() -> None:
    """A caller whose turn has come and who is cancelled before it runs gives its room back."""

    async def scenario() -> None:
        run = Doubler(gated=True)
        async with held(run, max_queue_rows=2) as made:
            first, second, third = (made.ask([number], wait=True) for number in (1, 2, 3))
            await eventually(lambda: made.batcher.waiting_rows == 1)
            first.cancel()  # At the next turn of the loop the second is let in …
            await asyncio.sleep(0)
            second.cancel()  # … and gives up before it goes on.
            await asyncio.gather(first, second, return_exceptions=True)
            await eventually(lambda: made.batcher.waiting_rows == 1)
            run.gate.set()
            assert (await third)[0].tolist() == [6]
            assert [2.0] not in run.batches

    asyncio.run(scenario())


def test_delay_gathers() -> None:
    """With a delay a free session waits for more rows, until the batch is full or the time is over."""

    async def scenario() -> None:
        run = Doubler()
        async with bench(run, max_delay=60, max_batch_rows=4) as made:
            requests = [made.ask([number]) for number in range(3)]
            await eventually(lambda: made.batcher.waiting_rows == 3)
            await asyncio.sleep(0.05)
            assert run.batches == []
            requests.append(made.ask([3]))
            await asyncio.gather(*requests)
            assert run.batches == [[0, 1, 2, 3]]
        async with bench(run, max_delay=0.01) as made:
            assert (await made.ask([7]))[0].tolist() == [14]

    asyncio.run(scenario())


def test_batchers_take_turns() -> None:
    """Two batchers on one slot are served in turn: a long queue of one does not shut out the other."""

    async def scenario() -> None:
        run, other_run = Doubler(gated=True), Doubler()
        async with held(run, max_batch_rows=1) as made:
            other = Bench(other_run, BatchPolicy(), slots=made.slots)
            long = [made.ask([number]) for number in range(1, 21)]
            await eventually(lambda: made.batcher.waiting_rows == 20)
            short = other.ask([5])
            await eventually(lambda: other.batcher.waiting_rows == 1)
            run.gate.set()
            await short
            assert len(run.batches) < 10
            await asyncio.gather(*long)

    asyncio.run(scenario())


class Notes:
    """A `BatchObserver` that writes down what it is told."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, int, str, int, int]] = []
        self.queue_seconds: list[float] = []
        self.waiting: list[int] = []

    def batch_done(
        self,
        model: str,
        version: int,
        graph: str,
        rows: int,
        requests: int,
        queue_seconds: Sequence[float],
        inference_seconds: float,
    ) -> None:
        self.batches.append((model, version, graph, rows, requests))
        self.queue_seconds += queue_seconds
        assert inference_seconds > 0

    def queue_rows(self, model: str, graph: str, rows: int) -> None:
        assert (model, graph) == ("tiny", "encoder")
        self.waiting.append(rows)


def test_observer() -> None:
    """The observer learns of each batch, of each request's time in the queue once, and of how many rows wait."""

    async def scenario() -> None:
        notes, run = Notes(), Doubler(gated=True)
        made = Bench(run, BatchPolicy(max_batch_rows=10, max_queue_rows=20), notes)
        requests = [made.ask([0] * 10)]
        await eventually(lambda: len(run.batches) == 1)
        requests += [made.ask([1] * 15), made.ask([2] * 5)]
        await eventually(lambda: made.batcher.waiting_rows == 20)
        with pytest.raises(OverloadedError):
            await made.ask([3])
        run.gate.set()
        await asyncio.gather(*requests)
        made.close()
        assert notes.batches == [
            ("tiny", 1, "encoder", 10, 1),
            ("tiny", 1, "encoder", 10, 1),
            ("tiny", 1, "encoder", 10, 2),
        ]
        assert len(notes.queue_seconds) == 3
        assert all(seconds >= 0 for seconds in notes.queue_seconds)
        assert notes.waiting == [0, 20, 10, 0]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"max_batch_rows": 0}, "max_batch_rows is 0, it must be at least 1"),
        ({"max_queue_rows": 0}, "max_queue_rows is 0"),
        ({"sessions": 0}, "sessions is 0"),
        ({"max_delay": -1.0}, "max_delay is -1.0 s, it must not be negative"),
    ],
)
def test_policies_that_make_no_sense(setting: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BatchPolicy(**setting)  # type: ignore[arg-type]  # whole numbers where it wants them
