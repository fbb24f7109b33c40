"""Limits the calls that a server holds concurrently, and rejects new calls while it is stopping.

Every connection has the same claim. When the limit is reached, a new call takes the place of one that only waits for
its client, if that client's connection holds more calls than its own. The last quarter of the places is for connections
that have fewer calls than their share, if there are several: one that calls without end does not take all places.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from typing import Generic, Protocol, TypeVar

from partedvae.serving.errors import StoppingError, TooManyCallsError
from partedvae.serving.inline_task import on_event_loop

HOLD_SECONDS = 0.5
"""How long the rejection of a call is delayed while the server is stopping.

gRPC answers calls that arrive just as the server shuts down with CANCELLED, which clients do not retry. A client that
retries immediately after a rejection would run into that; while its rejection is delayed, it has no call to send.
"""
POLL_SECONDS = 0.01
SETTLE_SECONDS = 0.25
"""How long replies, and the next requests of the same clients, may be in transit on a busy machine."""
PATIENCE_SECONDS = 0.1
"""How long a call may wait for its client before another call can take its place."""
SHARE_SECONDS = 2.0
"""How long a connection whose call was refused has a share: longer than its client waits to try again."""
SEARCH_SECONDS = 0.02
"""Time between two searches for such a call, so that a flood of calls does not make the server search all the time."""


class LimitedCall(Protocol):
    """A call as the limiter sees it."""

    connection: str
    """The client's address and port."""
    is_stream: bool
    """Whether the client may send several requests, for as long as it likes."""

    @property
    def waits_since(self) -> float:
        """Time (`time.monotonic`) since when only the client can continue, by sending or receiving; 0 otherwise."""

    def evict(self, reason: str) -> bool:
        """End the call with a status that lets the client try again, and report whether it was not ending already.

        Called from any thread; must not call the limiter.

        Args:
            reason: for the message.
        """


C = TypeVar("C", bound=LimitedCall)


class CallLimiter(Generic[C]):
    """Admits at most a fixed number of concurrent calls. Thread-safe, except for what is awaited."""

    def __init__(
        self,
        max_calls: int,
        per_connection: int | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
        on_evicted: Callable[[], None] | None = None,
    ) -> None:
        """Create a limiter.

        Args:
            max_calls: largest number of concurrent calls.
            per_connection: largest number of one connection; None for no limit of its own.
            patience_seconds: how long a call may wait for its client before another call can take its place.
            on_evicted: called when a call has lost its place to another.
        """
        self._on_evicted = on_evicted
        self.active_calls = 0
        """Admitted calls that have not ended."""
        self._max_calls = max_calls
        self._per_connection = per_connection or max_calls
        self._patience = patience_seconds
        self._calls: dict[str, dict[C, None]] = {}
        self._placeless: dict[C, None] = {}
        self._searched = 0.0
        self._refused = ("", -SHARE_SECONDS)
        self._closed = False
        self._last_change = -SETTLE_SECONDS
        self._held = 0
        self._released = asyncio.Event()
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[C]:
        """Iterate over all calls that have not ended.

        Those that were refused are among them: a client may not take their statuses.
        """
        with self._lock:
            return iter([*chain.from_iterable(self._calls.values()), *self._placeless])

    def try_acquire(self, call: C) -> bool:
        """Admit a call if the limits allow it; each call, admitted or not, must end with `release_call`."""
        with self._lock:
            if self._closed or not self._has_place(call.connection):
                self._placeless[call] = None
                return False
            self._calls.setdefault(call.connection, {})[call] = None
            self.active_calls += 1
            self._last_change = time.monotonic()
            return True

    def release_call(self, call: C) -> None:
        """Record that a call has ended, or has lost its place."""
        with self._lock:
            self._release(call)

    def dismiss(self, call: C) -> None:
        """Give the place of a call to others, although it has not ended: it is being ended, or has its reply."""
        with self._lock:
            self._dismiss(call)

    async def reject(self, connection: str) -> None:
        """Raise the reason why `try_acquire` returned False, after a delay while the server is stopping.

        Args:
            connection: that of the call.

        Raises:
            StoppingError: the server is stopping.
            TooManyCallsError: the limit of concurrent calls is reached.
        """
        if self._closed:
            await on_event_loop()
        else:
            own = len(self._calls.get(connection, ()))
            if own and (own >= self._per_connection != self._max_calls or self.active_calls < self._max_calls):
                raise TooManyCallsError(own, " of this connection")
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

    def _release(self, call: C) -> None:
        if call in self._placeless:
            del self._placeless[call]
            return
        calls = self._calls.get(call.connection)
        if calls is None or call not in calls:
            return
        del calls[call]
        if not calls:
            del self._calls[call.connection]
        self.active_calls -= 1
        self._last_change = time.monotonic()

    def _dismiss(self, call: C) -> None:
        self._release(call)
        self._placeless[call] = None

    def _has_place(self, connection: str) -> bool:
        """Return whether a connection may have one more call, after ending another one if necessary."""
        calls = self._calls.get(connection)
        own = len(calls) if calls is not None else 0
        if own >= self._per_connection or self._is_too_many(connection, own):
            return False
        if self.active_calls >= self._max_calls and not self._replace_waiting(own):
            self._refused = (connection, time.monotonic())
            return False
        return True

    def _is_too_many(self, connection: str, own: int) -> bool:
        """Return whether a connection with `own` calls has its share, and the other places are for others."""
        if not own or self.active_calls < self._max_calls - self._max_calls // 4:
            return False
        refused, when = self._refused
        is_other = refused != connection and refused not in self._calls
        waits = is_other and time.monotonic() - when < SHARE_SECONDS
        connections = len(self._calls) + waits
        return connections > 1 and own >= self._max_calls // connections

    def _report_eviction(self) -> None:
        if self._on_evicted is not None:
            self._on_evicted()

    def _replace_waiting(self, own: int) -> bool:
        """End a call that waits for its client, of a connection that has more than `own` calls, if there is one."""
        now = time.monotonic()
        if now - self._searched < SEARCH_SECONDS and self._patience:
            return False
        for calls in sorted(self._calls.values(), key=len, reverse=True):
            if len(calls) <= own:
                break
            waiting = [call for call in calls if call.waits_since and now - call.waits_since >= self._patience]
            if waiting:
                victim = min(waiting, key=lambda call: call.waits_since)
                if victim.evict(f"{self._max_calls} calls are active, and this one only waited for its client"):
                    self._report_eviction()
                self._dismiss(victim)
                return True
        if own == 0 and self._replace_stream():
            return True
        self._searched = now
        return False

    def _replace_stream(self) -> bool:
        """End the oldest stream of the connection with most calls, if it has more than its share.

        A stream that sends a little now and then never waits for long, and could go on for ever.
        """
        calls = max(self._calls.values(), key=len, default={})
        if len(calls) <= self._max_calls // (len(self._calls) + 1):
            return False
        victim = next((call for call in calls if call.is_stream), None)
        if victim is None:
            return False
        if victim.evict(f"{self._max_calls} calls are active, and this connection has more than its share"):
            self._report_eviction()
        self._dismiss(victim)
        return True
