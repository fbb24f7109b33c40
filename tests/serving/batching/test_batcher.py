"""Tests of the batcher and the scheduler with a graph that can be held: which rows are run together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from partedvae.serving.batching.request import Columns
from partedvae.serving.batching.scheduler import BatchPolicy
from partedvae.serving.errors import OverloadedError
from tests.serving.gated_batches import Bench, Doubler, bench, eventually, held


async def test_what_waits_becomes_one_batch() -> None:
    """Requests that arrive during a run are in the next batch, and each gets its own rows."""
    run = Doubler(gated=True)
    async with held(run) as made:
        requests = [made.ask(numbers) for numbers in ([1], [2, 3], [4])]
        await eventually(lambda: made.batcher.waiting_rows == 4)
        run.gate.set()
        assert [(await request)[0].tolist() for request in requests] == [[2], [4, 6], [8]]
        assert run.batches == [[0], [1, 2, 3, 4]]


async def test_requests_of_one_turn_share_a_batch() -> None:
    """Requests of one turn of the event loop share a batch, also if no run was in progress."""
    run = Doubler()
    async with bench(run) as made:
        await asyncio.gather(*(made.ask([number]) for number in range(8)))
        assert run.batches == [list(range(8))]


async def test_requests_of_a_few_turns_share_a_batch() -> None:
    """An idle process lingers for requests of the next turns of the event loop."""
    run = Doubler()
    async with bench(run) as made:
        requests = []
        for number in range(4):
            requests.append(made.ask([number]))
            await asyncio.sleep(0)
        await asyncio.gather(*requests)
        assert run.batches == [[0, 1, 2, 3]]


@pytest.mark.parametrize("rows", [1, BatchPolicy().enough_rows])
async def test_a_run_in_progress_delays_others_only_briefly(rows: int) -> None:
    """A free session runs few rows or many, although another run does not end."""
    run = Doubler(gated=True)
    async with held(run, sessions=2) as made:
        request = made.ask(range(rows))
        await eventually(lambda: run.batches[1:] == [list(range(rows))])
        run.gate.set()
        assert (await request)[0].tolist() == [2 * number for number in range(rows)]


async def test_different_outputs_share_a_batch() -> None:
    """The batch computes the union, and each caller gets its requested outputs in its own order."""
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


async def test_large_requests_are_split() -> None:
    """A request above the largest batch is split and joined in order; a small one does not wait for its end."""
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
        assert run.batches[2] == [100] * 5 + list(range(21, 36)), "the large one yields after each part"


async def test_requests_that_fit_are_not_split() -> None:
    """A request that fits into a batch is not split to fill the previous one."""
    run = Doubler(gated=True)
    async with held(run, max_batch_rows=20) as made:
        requests = [made.ask([number] * 15) for number in (1, 2)]
        await eventually(lambda: made.batcher.waiting_rows == 30)
        run.gate.set()
        await asyncio.gather(*requests)
        assert run.batches == [[0], [1] * 15, [2] * 15]


async def test_idle_sessions_share_a_request() -> None:
    """If two sessions are free, a request runs on both, unless it is too small."""
    run, smallest = Doubler(), BatchPolicy().min_split_rows
    async with bench(run, sessions=2) as made:
        await made.ask(range(2 * smallest))
        assert sorted(map(len, run.batches)) == [smallest, smallest]
        run.batches.clear()
        await made.ask(range(smallest))
        assert run.batches == [list(range(smallest))]


async def test_delay() -> None:
    """With a delay, a free session waits for more rows until the batch is full or the delay has passed."""
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


async def test_batchers_take_turns() -> None:
    """Two batchers on one session are served in turn: a long queue of one does not starve the other."""
    run, batches_before = Doubler(gated=True), []

    class Other(Doubler):
        def __call__(self, columns: Columns, outputs: tuple[str, ...]) -> Columns:
            batches_before.append(len(run.batches))
            return super().__call__(columns, outputs)

    async with held(run, max_batch_rows=1) as made:
        other = Bench(Other(), BatchPolicy(), scheduler=made.scheduler)
        long = [made.ask([number]) for number in range(1, 21)]
        await eventually(lambda: made.batcher.waiting_rows == 20)
        short = other.ask([5])
        await eventually(lambda: other.batcher.waiting_rows == 1)
        run.gate.set()
        await asyncio.gather(short, *long)
        assert batches_before[0] < 5


class Notes:
    """A `BatchObserver` that records its calls."""

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

    def queue_rows(self, model: str, version: int, graph: str, rows: int) -> None:
        assert (model, graph) == ("tiny", "encoder")
        self.waiting.append(rows)


async def test_observer() -> None:
    """The observer receives each batch, the time of each request in the queue once, and the number of waiting rows."""
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
    await eventually(lambda: len(notes.batches) == 3)
    made.close()
    assert notes.batches == [
        ("tiny", 1, "encoder", 10, 1),
        ("tiny", 1, "encoder", 10, 1),
        ("tiny", 1, "encoder", 10, 2),
    ]
    assert len(notes.queue_seconds) == 3
    assert all(seconds >= 0 for seconds in notes.queue_seconds)
    assert notes.waiting == [0, 20, 10, 0]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"max_batch_rows": 0}, "max_batch_rows is 0, it must be at least 1"),
        ({"max_queue_rows": 0}, "max_queue_rows is 0"),
        ({"sessions": 0}, "sessions is 0"),
        ({"max_delay": -1.0}, "max_delay is -1.0 s, it must not be negative"),
    ],
)
def test_invalid_policies(setting: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BatchPolicy(**setting)  # type: ignore[arg-type]  # int for the fields that are int
