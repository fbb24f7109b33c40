"""Load generator for a constant rate: requests are due at equal intervals, whether or not earlier ones have completed.

Latencies count from the time at which a request was due. A server that stops for a moment thus delays all requests of
that moment, as it would those of independent callers, and not only the one that it holds.

h2load is not used for this: its timers fire every 10 ms at most, and its latencies count from the time of sending. This
generator sends requests that are encoded once, over plain sockets, in one thread. It needs about as much processor time
per request as the kernel does for sending and receiving it.
"""

from __future__ import annotations

import gc
import select
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np

from benchmarks.serving.http2 import RequestConnection
from benchmarks.serving.load import BenchmarkError, Target, warm_up_seconds

CONNECTIONS = 16
"""As several workers share a port by connections, a few connections would not reach all of them alike."""
STREAMS = 16
"""Maximum concurrent requests per connection, unless the server allows fewer; further ones wait, and are late."""
MIN_ACHIEVED = 0.98
"""Fraction of the rate below which a server does not keep it."""
DRAIN_SECONDS = 10.0
"""Time after the last request until all responses must have arrived."""


@dataclass(frozen=True, kw_only=True)
class PacedMeasurement:
    """Latency percentiles at a rate, and what the generator itself needed."""

    rate: float
    """Requests due per second."""
    achieved: float
    """Responses per second."""
    p50_ms: float | None
    """Median latency; None if the server does not keep the rate: the queue, and with it the latency, then grows with
    the duration of the measurement."""
    p90_ms: float | None
    p99_ms: float | None
    generator_cpus: float
    """Processors that the generator used, 0 to 1."""
    generator_late_ms: float
    """99th percentile of the generator's own delay: from the time at which a request was due, and could be sent, until
    it was sent."""

    @property
    def is_kept(self) -> bool:
        """Whether the server responded at the rate."""
        return self.p50_ms is not None


def run(target: Target, rate: float, seconds: float) -> PacedMeasurement:
    """Send requests at a constant rate in one thread.

    Args:
        target: the request.
        rate: requests per second.
        seconds: duration of the measurement; a warm-up at the same rate comes first.

    Raises:
        BenchmarkError: a request failed, or got no response.
    """
    try:
        with ExitStack() as stack:
            connections = [stack.enter_context(RequestConnection.open(target, STREAMS)) for _ in range(CONNECTIONS)]
            stack.enter_context(_without_garbage_collection())
            return _Pace(connections, rate, seconds).run()
    except OSError as error:
        raise BenchmarkError(f"a request to {target.address}{target.path} failed: {error}") from error


class _Pace:
    """One measurement."""

    def __init__(self, connections: Sequence[RequestConnection], rate: float, seconds: float) -> None:
        self._connections = connections
        self._turn = 0
        self._rate = rate
        self._seconds = seconds
        self._start = time.perf_counter()
        self._begin = self._start + warm_up_seconds(seconds)
        self._end = self._begin + seconds
        self._total = round((self._end - self._start) * rate)
        self._sent = 0
        self._completed = 0
        """Responses between `_begin` and `_end`."""
        self._latencies: list[float] = []
        """Of the requests that were due between `_begin` and `_end`."""
        self._late: list[float] = []
        self._unblocked = 0.0
        """When the latest wait for a free stream ended."""

    def run(self) -> PacedMeasurement:
        processor_time = time.process_time()
        while (now := time.perf_counter()) < self._end:
            self._step(now, self._end)
        cpus = (time.process_time() - processor_time) / (self._end - self._start)
        achieved = self._completed / self._seconds
        if achieved >= MIN_ACHIEVED * self._rate:
            self._drain()
        return _summary(self._rate, achieved, self._latencies, cpus, self._late)

    def _drain(self) -> None:
        """Send the last requests, and wait for all responses: without these the slowest would be missing."""
        end = time.perf_counter() + DRAIN_SECONDS
        while missing := self._total - self._sent + sum(connection.active for connection in self._connections):
            now = time.perf_counter()
            if now > end:
                raise BenchmarkError(f"{missing} requests got no response within {DRAIN_SECONDS:g} s")
            self._step(now, end)

    def _step(self, now: float, end: float) -> None:
        """Send what is due, and wait for responses until more is due, at most until some time."""
        is_blocked = False
        while self._sent < self._total:
            due = self._start + self._sent / self._rate
            if due > now:
                end = min(due, end)
                break
            connection = self._next_free()
            if connection is None:
                is_blocked = True
                break
            connection.send(due)
            self._sent += 1
            if due >= self._begin:
                self._late.append(now - max(due, self._unblocked))
        self._exchange(end - now)
        if is_blocked:
            self._unblocked = time.perf_counter()

    def _next_free(self) -> RequestConnection | None:
        for _ in self._connections:
            self._turn = (self._turn + 1) % len(self._connections)
            if self._connections[self._turn].is_free:
                return self._connections[self._turn]
        return None

    def _exchange(self, timeout: float) -> None:
        """Send what is buffered, wait for responses at most for a time, and record those that have arrived."""
        unsent = [connection for connection in self._connections if not connection.flush()]
        # Unlike poll and epoll, select waits for less than a millisecond.
        readable, _, _ = select.select(self._connections, unsent, (), max(0.0, timeout))
        for connection in readable:
            dues = connection.receive()
            now = time.perf_counter()
            self._completed += len(dues) if self._begin < now <= self._end else 0
            self._latencies.extend(now - due for due in dues if self._begin <= due < self._end)


def _summary(
    rate: float, achieved: float, latencies: Sequence[float], cpus: float, late: Sequence[float]
) -> PacedMeasurement:
    is_kept = achieved >= MIN_ACHIEVED * rate and len(latencies) > 0
    percentiles = np.percentile(latencies, [50, 90, 99]) if is_kept else ()
    p50, p90, p99 = (round(1000 * float(value), 2) for value in percentiles) if is_kept else (None, None, None)
    return PacedMeasurement(
        rate=rate,
        achieved=round(achieved, 1),
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        generator_cpus=round(cpus, 2),
        generator_late_ms=round(1000 * float(np.percentile(late, 99)), 2) if late else 0.0,
    )


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Avoid pauses of the generator, which would be measured as latency."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def latency_cell(measurement: PacedMeasurement) -> str:
    """Return p50 and p99 as the cell of a table, or the rate that the server reached instead."""
    if measurement.p50_ms is None:
        return f"not kept: {measurement.achieved:,.0f}/s"
    return f"{measurement.p50_ms:.1f} / {measurement.p99_ms:.1f}"


def describe_generator(measurements: Sequence[PacedMeasurement]) -> str:
    """Return the cost of the generator in some measurements as a sentence, so that its part in them can be judged."""
    busiest = max(measurements, key=lambda measurement: measurement.generator_cpus)
    latest = max(measurements, key=lambda measurement: measurement.generator_late_ms)
    return (
        f"Rates are evenly paced, and latencies count from the time at which a request was due. The generator used at "
        f"most {busiest.generator_cpus:.0%} of a processor (at {busiest.achieved:,.0f} responses/s), and 99 % of its "
        f"requests were sent within {latest.generator_late_ms:.1f} ms of that time in the worst case (at "
        f"{latest.rate:,.0f}/s)."
    )
