"""Measures how late an event loop runs its callbacks, which is how long something else has held it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

INTERVAL_SECONDS = 0.02
"""Each measurement costs about 30 microseconds."""


@asynccontextmanager
async def lag_measured(observe: Callable[[float], None]) -> AsyncIterator[None]:
    """Measure the lag of the running event loop in the block.

    Args:
        observe: called every `INTERVAL_SECONDS` with how many seconds late the loop was; once after a longer delay.
    """
    loop = asyncio.get_running_loop()

    async def measure() -> None:
        while True:
            due = loop.time() + INTERVAL_SECONDS
            await asyncio.sleep(INTERVAL_SECONDS)
            observe(max(0.0, loop.time() - due))

    measuring = asyncio.create_task(measure())
    try:
        yield
    finally:
        measuring.cancel()
        with suppress(asyncio.CancelledError):
            await measuring
