"""Jobs in several threads: how they end when one of them fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from partedvae.serving.extract import pipeline


@pytest.fixture(autouse=True)
def _two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "thread_count", lambda: 2)


def numbers(last: int) -> Iterator[Any]:
    """Yield jobs, of which `work` gets the number alone."""
    yield from range(last)


def test_reads_that_begin_while_others_are_cancelled_are_cancelled_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no further job begins, whose reads would wait for a server that does not answer."""
    begun: list[int] = []
    reading, cancelled = threading.Event(), threading.Event()
    rounds = 0

    def cancel() -> None:
        nonlocal rounds
        rounds += 1
        if rounds > 1:  # The read of job 1 began after the first round.
            cancelled.set()

    def work(job: Any) -> None:
        begun.append(job)
        if job == 0:
            assert reading.wait(60)
            raise ValueError("the disk is full")
        reading.set()
        assert cancelled.wait(60), "the read was never cancelled"

    monkeypatch.setattr(pipeline, "cancel_reads", cancel)
    with pytest.raises(ValueError, match="the disk is full"):
        list(pipeline.in_order(numbers(9), work, 1))
    assert sorted(begun) == [0, 1] or sorted(begun) == [0, 1, 2]
    assert rounds >= 2
