"""Tests of the batcher with cancelled callers and failing graphs: other requests are not affected."""

from __future__ import annotations

import asyncio

import pytest

from tests.serving.gated_batches import Doubler, bench, eventually, held


async def test_cancelled_before_its_batch_starts() -> None:
    """Its rows leave the queue immediately and are not computed; the others of its batch are."""
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


async def test_cancelled_while_its_batch_runs() -> None:
    """Its result is discarded; the others of its batch get theirs."""
    run = Doubler(gated=True)
    async with bench(run) as made:
        requests = [made.ask([number]) for number in range(4)]
        await eventually(lambda: run.batches == [[0, 1, 2, 3]])
        requests[2].cancel()
        with pytest.raises(asyncio.CancelledError):
            await requests[2]
        run.gate.set()
        assert [(await requests[index])[0].tolist() for index in (0, 1, 3)] == [[0], [2], [6]]


async def test_cancelled_half_way() -> None:
    """The rest of a cancelled large request is not computed."""
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


async def test_one_bad_request_in_a_batch() -> None:
    """If a batch fails, its requests are run one by one, and only the one that fails gets the error."""
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


async def test_a_failing_part_ends_its_request() -> None:
    """The rest of a split request is not computed after a part of it has failed."""
    run = Doubler(bad=3)
    async with bench(run, max_batch_rows=5) as made:
        with pytest.raises(ArithmeticError, match="3 is bad"):
            await made.ask(range(500))
        assert made.batcher.waiting_rows == 0
        assert len(run.batches) < 10
