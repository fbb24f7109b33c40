"""Batches are a function of seed and step."""

from __future__ import annotations

import pytest
import torch

from partedvae.training.data.sampler import Batches


def test_a_pass_sees_every_item_once_in_another_order_each_time() -> None:
    batches = Batches(10, 4, seed=3)
    assert batches.per_pass == 3
    passes = [torch.cat([batches[3 * number + k] for k in range(3)]).tolist() for number in range(2)]
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(10))
    assert passes[0] != passes[1]


def test_the_batch_of_a_step_does_not_depend_on_earlier_calls() -> None:
    one, other = Batches(50, 8, seed=1), Batches(50, 8, seed=1)
    for step in range(20):
        _ = one[step]
    assert torch.equal(one[13], other[13])
    assert not torch.equal(one[13], Batches(50, 8, seed=2)[13])


@pytest.mark.parametrize(("count", "full"), [(10, False), (10, True), (3, False), (8, True)])
def test_the_items_before_a_step_are_those_of_the_earlier_batches(count: int, full: bool) -> None:
    batches = Batches(count, 4, seed=0, full=full)
    assert [batches.items_before(step) for step in range(9)] == [
        sum(len(batches[earlier]) for earlier in range(step)) for step in range(9)
    ]


def test_fewer_items_than_a_batch_are_all_in_every_batch() -> None:
    batches = Batches(3, 64, seed=0)
    assert sorted(batches[0].tolist()) == sorted(batches[7].tolist()) == [0, 1, 2]


def test_full_batches_leave_out_the_rest_of_a_pass() -> None:
    batches = Batches(10, 4, 0, full=True)
    assert batches.per_pass == 2
    assert [len(batches[step]) for step in range(6)] == [4] * 6
    assert len({item for step in range(20) for item in batches[step].tolist()}) == 10
    assert [len(Batches(3, 4, 0, full=True)[step]) for step in range(2)] == [3, 3]
