"""Lets calls in: not more than a number at a time, and none when the server is stopping."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from partedvae.serving.errors import StoppingError, TooManyCallsError

HOLD_SECONDS = 0.5
"""How long the refusal of a call is held back while the server is stopping.

gRPC answers calls that reach a server just as it shuts down with CANCELLED, which callers take for a failure of the
call. Callers that ask again as soon as they are refused would run into that; held back, they have nothing under way.
"""
POLL_SECONDS = 0.01
SETTLE_SECONDS = 0.25
"""How long answers and the next requests of their callers may be under way, on a busy machine."""


class Door:
    """The way in for the calls of a server. For the event loop's thread alone."""

    def __init__(self, max_calls: int) -> None:
        """Open, for at most `max_calls` calls at a time."""
        self.inside = 0
        """Calls in hand."""
        self._max_calls = max_calls
        self._closed = False
        self._last_move = -SETTLE_SECONDS
        self._held = 0
        self._released = asyncio.Event()

    def enter(self) -> bool:
        """Let a call in if that can be; `leave` must follow."""
        if self._closed or self.inside >= self._max_calls:
            return False
        self.inside += 1
        self._last_move = time.monotonic()
        return True

    def leave(self) -> None:
        """Note that a call that was let in has ended."""
        self.inside -= 1
        self._last_move = time.monotonic()

    async def turn_away(self) -> None:
        """Tell a call why it was not let in, in due time.

        Raises:
            StoppingError: the server is stopping.
            TooManyCallsError: there are too many calls in hand.
        """
        if not self._closed:
            raise TooManyCallsError(self._max_calls)
        self._held += 1
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._released.wait(), HOLD_SECONDS)
            if not self.inside:  # The shutdown is near.
                await self._released.wait()
        finally:
            self._held -= 1
        raise StoppingError("the server is stopping: try again, another may have taken its place")

    def close(self) -> None:
        """Let nobody in any more."""
        self._closed = True

    async def empty(self, seconds: float) -> None:
        """Wait until no call is in hand, for some seconds at most."""
        end = time.monotonic() + seconds
        while self.inside and time.monotonic() < end:
            await asyncio.sleep(POLL_SECONDS)
        await asyncio.sleep(max(0.0, self._last_move + SETTLE_SECONDS - time.monotonic()))

    async def release(self) -> None:
        """Refuse those who were held back, now that their connections are told to ask elsewhere."""
        if self._held:
            await asyncio.sleep(SETTLE_SECONDS)
        self._released.set()
