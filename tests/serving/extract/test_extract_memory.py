"""How many batches an extraction holds, which bounds its memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from partedvae.serving.extract import pipeline
from partedvae.serving.extract.pipeline import MEMORY, in_order, thread_count
from partedvae.serving.extract.sources.source import Job, Prepared
from partedvae.v1.manifest_pb2 import ImageSpec

MEGABYTE = 1 << 20


@pytest.mark.parametrize(
    ("cpus", "size", "threads"),
    [
        (1, MEGABYTE, 4),
        (2, MEGABYTE, 4),
        (64, MEGABYTE, 128),
        (64, 100 * MEGABYTE, 10),
        (64, 10 * MEMORY, 2),
    ],
    ids=["one processor", "two processors", "small images", "large images", "enormous images"],
)
def test_the_threads_are_limited_by_processors_and_by_the_size_of_a_batch(
    monkeypatch: pytest.MonkeyPatch, cpus: int, size: int, threads: int
) -> None:
    monkeypatch.setattr(pipeline, "available_cpus", lambda: cpus)
    assert thread_count(size) == threads


def test_no_more_jobs_are_taken_than_there_are_threads() -> None:
    """Until the first result is there: one more than the threads, which waits for a free one."""
    threads, first_done = thread_count(10 * MEMORY), threading.Event()
    before_the_first: list[int] = []

    def job(_spec: ImageSpec) -> Prepared:
        return Prepared(keys=[0], errors=[None], images=np.zeros((1, 8, 6, 1), np.uint8))

    def jobs() -> Iterator[Job]:
        for number in range(20):
            if not first_done.is_set():
                before_the_first.append(number)
            if len(before_the_first) == threads + 1:
                first_done.set()
            yield job

    def work(_job: Job) -> int:
        assert first_done.wait(60)
        return 1

    assert sum(in_order(jobs(), work, 10 * MEMORY)) == 20
    assert before_the_first == list(range(threads + 1))
