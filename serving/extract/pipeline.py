"""Runs jobs in several threads, ahead of their consumer and within a bound of memory, and keeps their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from partedvae.common.cpus import available_cpus
from partedvae.serving.extract.sources.source import Job

T = TypeVar("T")

MEMORY = 1 << 30
"""Bytes that the batches of an extraction occupy together, unless two of them are larger."""


def in_order(jobs: Iterator[Job], work: Callable[[Job], T], size: int) -> Iterator[T]:
    """Run jobs in several threads, some of them ahead; yield the results in order.

    Args:
        jobs: the jobs.
        work: what to do with each.
        size: memory in bytes that a job occupies; with many processors or large images it limits their number.
    """
    threads = thread_count(size)
    ahead: deque[Future[T]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="partedvae-extract")
    try:
        for job in jobs:
            ahead.append(pool.submit(work, job))
            if len(ahead) > threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def thread_count(size: int) -> int:
    """Return the number of threads for jobs of a size in bytes: two per processor, and at most `MEMORY` in all.

    One batch is decoded while another is in the encoder or sent to the server, and both release the GIL.
    """
    return max(2, min(max(4, 2 * available_cpus()), MEMORY // size))
