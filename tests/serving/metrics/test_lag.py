"""Tests of `partedvae.serving.metrics.lag`."""

from __future__ import annotations

import asyncio
import time

from prometheus_client import CollectorRegistry

from partedvae.serving.metrics.lag import lag_measured
from partedvae.serving.metrics.metrics import Metrics


async def test_a_held_loop_is_measured() -> None:
    """What holds the event loop appears once, in full; the task ends with the block."""
    seen: list[float] = []
    async with lag_measured(seen.append):
        while len(seen) < 3:
            await asyncio.sleep(0.01)
        before = len(seen)
        time.sleep(0.5)
        while len(seen) == before:
            await asyncio.sleep(0.01)
        assert seen[before] >= 0.4
        assert min(seen) >= 0
    ended = len(seen)
    await asyncio.sleep(0.1)
    assert len(seen) == ended


def test_histogram() -> None:
    """The buckets separate a loop that answers from one that was held for longer than a request may hold it."""
    metrics = Metrics(registry := CollectorRegistry())
    for seconds in (0.001, 0.019, 0.021, 6.0):
        metrics.lag(seconds)

    def bucket(le: str) -> float | None:
        return registry.get_sample_value("partedvae_event_loop_lag_seconds_bucket", {"le": le})

    assert (bucket("0.005"), bucket("0.02"), bucket("0.05"), bucket("5.0"), bucket("+Inf")) == (1, 2, 3, 3, 4)
