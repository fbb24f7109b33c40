"""How much an extraction holds, which bounds its memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

from partedvae.serving.extract import pipeline
from partedvae.serving.extract.memory import BATCHES, MIB, BlockingMemoryPool
from partedvae.serving.extract.pipeline import in_order, rows_per_job, thread_count
from partedvae.serving.extract.sources.source import Job, Prepared
from partedvae.v1.manifest_pb2 import ImageSpec
from tests.processes import PATIENCE, wait_until


@pytest.mark.parametrize(
    ("cpus", "size", "rows"),
    [(2, 2 * 784 + 580, 256), (64, 2 * 784 + 580, 240), (2, 2 * 218 * 178 * 3, 48), (64, 2 * 218 * 178 * 3, 2)],
    ids=["small images", "small images, many processors", "large images", "large images, many processors"],
)
def test_batches_are_smaller_where_those_of_all_threads_would_be_too_large(
    cpus: int, size: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "available_cpus", lambda: cpus)
    assert rows_per_job(256, size) == rows


def numbered(number: int, _spec: ImageSpec) -> Prepared:
    return Prepared(keys=[number], errors=[None], images=np.zeros((1, 8, 6, 1), np.uint8))


def number_of(job: Job) -> int:
    return int(job(ImageSpec()).keys[0])


@pytest.mark.parametrize(("size", "most"), [(BATCHES // 3, 3), (10 * BATCHES, 1), (1, 2 * thread_count())])
def test_no_more_jobs_are_taken_than_memory_is_there_for(size: int, most: int) -> None:
    """Until the first result is there."""
    first_done = threading.Event()
    taken: list[int] = []

    def jobs() -> Iterator[Job]:
        for number in range(40):
            if not first_done.is_set():
                taken.append(number)
            if len(taken) == most:
                first_done.set()
            yield partial(numbered, number)

    def work(_job: Job) -> int:
        assert first_done.wait(PATIENCE)
        return 1

    assert sum(in_order(jobs(), work, size)) == 40
    assert len(taken) == most


def test_results_are_in_the_order_of_the_jobs() -> None:
    """Also when a later job ends first."""
    second_done = threading.Event()

    def work(job: Job) -> int:
        number = number_of(job)
        if number == 0:
            assert second_done.wait(PATIENCE)
        if number == 1:
            second_done.set()
        return number

    jobs: Iterator[Job] = (partial(numbered, number) for number in range(8))
    assert list(in_order(jobs, work, MIB)) == list(range(8))


def test_a_pool_admits_as_much_as_its_limit_in_the_order_of_asking() -> None:
    """A large reservation waits for the others, is not overtaken, and may be above the limit when it is alone."""
    pool = BlockingMemoryPool(100)
    order: list[str] = []
    begun = {"large": threading.Event(), "small": threading.Event()}

    def reserve(name: str, size: int) -> None:
        begun[name].set()
        with pool.reserve(size):
            order.append(name)
            assert pool.reserved == size

    with ThreadPoolExecutor(2) as threads:
        with pool.reserve(60):
            with pool.reserve(40):
                assert pool.reserved == 100
            large = threads.submit(reserve, "large", 1000)
            wait_until(lambda: len(pool._waiting) == 1)
            small = threads.submit(reserve, "small", 10)
            wait_until(lambda: len(pool._waiting) == 2)
            assert order == []
        large.result(PATIENCE)
        small.result(PATIENCE)
    assert order == ["large", "small"]
    assert pool.reserved == 0


def test_a_failure_returns_what_was_reserved() -> None:
    pool = BlockingMemoryPool(100)
    with pytest.raises(ValueError, match="damaged"), pool.reserve(60):
        raise ValueError("damaged")
    assert pool.reserved == 0
