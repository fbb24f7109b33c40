"""The state of one server process, for probes and the supervisor."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

BEAT_SECONDS = 0.5
"""Interval of the event loop's beats."""


class ServerState:
    """Changed by the event loop's thread, read by any."""

    def __init__(self) -> None:
        """Create the state of a process that starts."""
        self.accepts_calls = False
        """Whether the server has started; still true while it stops."""
        self.beats = 0
        """Beats of the event loop since the server started."""
        self._can_answer: Callable[[], bool] = lambda: False
        self._stopping: Callable[[], bool] = lambda: False
        self._last_beat = 0.0

    @asynccontextmanager
    async def beating(
        self, can_answer: Callable[[], bool], stop: asyncio.Event, on_beat: Callable[[], None]
    ) -> AsyncIterator[None]:
        """Beat in the block as long as the event loop runs.

        Args:
            can_answer: reports whether a model is ready; called from any thread.
            stop: set when the server stops.
            on_beat: called after each beat, by the event loop.
        """
        self._can_answer, self._stopping = can_answer, stop.is_set

        async def beat() -> None:
            while True:
                self.beats += 1
                self._last_beat = time.monotonic()
                on_beat()
                await asyncio.sleep(BEAT_SECONDS)

        beating = asyncio.create_task(beat())
        try:
            yield
        finally:
            beating.cancel()
            with suppress(asyncio.CancelledError):
                await beating

    def is_ready(self) -> bool:
        """Report whether the services are SERVING."""
        return self.accepts_calls and not self._stopping() and self._can_answer()

    def is_alive(self, seconds: float) -> bool:
        """Report whether the event loop has run in the last seconds, or the server is still loading its models."""
        return not self.beats or time.monotonic() - self._last_beat <= seconds
