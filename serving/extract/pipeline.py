"""Runs jobs in several threads, ahead of their consumer and within a bound of memory, and keeps their order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from partedvae.common.allocator import keep_freed_blocks
from partedvae.common.cpus import available_cpus
from partedvae.serving.extract.memory import BATCHES
from partedvae.serving.extract.sources.remote import cancel_reads
from partedvae.serving.extract.sources.source import Job

KEPT_BELOW = 4 << 20
"""Freed blocks from this size on, in bytes, are returned to the system: 40 threads that have decoded a photograph would
otherwise each keep its memory, 40 times."""
CANCEL_SECONDS = 0.05
"""Seconds between two times that reads are cancelled, until no thread has one."""

T = TypeVar("T")


def in_order(jobs: Iterator[Job], work: Callable[[Job], T], size: int) -> Iterator[T]:
    """Run jobs in several threads, some of them ahead; yield the results in order.

    Args:
        jobs: the jobs.
        work: what to do with each.
        size: bytes that a job and its result occupy. All that are in flight occupy at most `BATCHES`, or are one.
    """
    keep_freed_blocks(KEPT_BELOW, unused=KEPT_BELOW)
    ahead: deque[Future[T]] = deque()
    most = max(1, min(_jobs_ahead(), BATCHES // size))
    pool = ThreadPoolExecutor(thread_count(), thread_name_prefix="partedvae-extract")
    try:
        for job in jobs:
            ahead.append(pool.submit(work, job))
            if len(ahead) >= most:
                yield _first_of(ahead)
        while ahead:
            yield _first_of(ahead)
    except BaseException:
        # Before any thread is free for another job.
        pool.shutdown(wait=False, cancel_futures=True)
        # The threads would wait for servers that do not answer. One may just be about to begin a read.
        while not all(future.done() for future in ahead):
            cancel_reads()
            time.sleep(CANCEL_SECONDS)
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _first_of(ahead: deque[Future[T]]) -> T:
    """Return the result of the first job, which stays among them while it is not there."""
    result = ahead[0].result()
    ahead.popleft()
    return result


def rows_per_job(batch_size: int, size: int) -> int:
    """Return the images of a job: fewer than `batch_size` if jobs for all threads would need more than `BATCHES`.

    Args:
        batch_size: images that were asked for.
        size: bytes that an image and its result occupy.
    """
    return max(1, min(batch_size, BATCHES // (_jobs_ahead() * size)))


def thread_count() -> int:
    """Return the number of threads: one more than processors, which waits for a disk while the others compute.

    With two per processor small PNG files took 8 to 18 % longer, since the threads wait for Python's lock.
    """
    return available_cpus() + 1


def _jobs_ahead() -> int:
    """Return how many jobs are in flight, if the memory is sufficient: more than run, because they end out of order."""
    return 2 * thread_count()
