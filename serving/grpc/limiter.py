"""Limits the calls that a server runs concurrently, and rejects new calls while it is stopping."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from partedvae.serving.errors import StoppingError, TooManyCallsError

HOLD_SECONDS = 0.5
"""How long the rejection of a call is delayed while the server is stopping.

gRPC answers calls that arrive just as the server shuts down with CANCELLED, which clients do not retry. A client that
retries immediately after a rejection would run into that; while its rejection is delayed, it has no call to send.
"""
POLL_SECONDS = 0.01
SETTLE_SECONDS = 0.25
"""How long replies, and the next requests of the same clients, may be in transit on a busy machine."""


class CallLimiter:
    """Admits at most a fixed number of concurrent calls. Not thread-safe: use it from the event loop's thread."""

    def __init__(self, max_calls: int) -> None:
        """Create a limiter that admits at most `max_calls` concurrent calls."""
        self.active_calls = 0
        """Admitted calls that have not ended."""
        self._max_calls = max_calls
        self._closed = False
        self._last_change = -SETTLE_SECONDS
        self._held = 0
        self._released = asyncio.Event()

    def try_acquire(self) -> bool:
        """Admit a call if the limit allows it; each admitted call must end with `release_call`."""
        if self._closed or self.active_calls >= self._max_calls:
            return False
        self.active_calls += 1
        self._last_change = time.monotonic()
        return True

    def release_call(self) -> None:
        """Record that an admitted call has ended."""
        self.active_calls -= 1
        self._last_change = time.monotonic()

    async def reject(self) -> None:
        """Raise the reason why `try_acquire` returned False, after a delay while the server is stopping.

        Raises:
            StoppingError: the server is stopping.
            TooManyCallsError: the limit of concurrent calls is reached.
        """
        if not self._closed:
            raise TooManyCallsError(self._max_calls)
        self._held += 1
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._released.wait(), HOLD_SECONDS)
            if not self.active_calls:  # The server is about to shut down.
                await self._released.wait()
        finally:
            self._held -= 1
        raise StoppingError("the server is stopping; retry, another server may have replaced it")

    def close(self) -> None:
        """Admit no more calls."""
        self._closed = True

    async def drain(self, seconds: float) -> None:
        """Wait until no call is active, at most `seconds`."""
        end = time.monotonic() + seconds
        while self.active_calls and time.monotonic() < end:
            await asyncio.sleep(POLL_SECONDS)
        await asyncio.sleep(max(0.0, self._last_change + SETTLE_SECONDS - time.monotonic()))

    async def release_held(self) -> None:
        """Send the delayed rejections, once the server has started to shut down its connections."""
        if self._held:
            await asyncio.sleep(SETTLE_SECONDS)
        self._released.set()
