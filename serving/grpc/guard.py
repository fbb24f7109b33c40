"""Ends calls whose clients keep the server waiting, and watches the memory of the process.

gRPC receives a request into buffers of its own, whose size it does not report, and limits it only when the request is
complete; the same is true of replies that a client does not take. So the operating system is asked how much memory the
process has. If it is much more than what is reserved, the calls end that wait for their clients: what is not reserved
is in their buffers.

A thread of its own asks, more often the less memory is left, and wakes the event loop only when there is something to
do.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from partedvae.common.allocator import resident_memory, trim
from partedvae.serving.grpc.calls import Call
from partedvae.serving.grpc.limiter import CallLimiter
from partedvae.serving.memory_budget import MIB, MemoryBudget, MemoryObserver

logger = logging.getLogger(__name__)

INTERVAL = 0.01
"""Least seconds between two looks at the memory: a client on a fast network sends some ten megabytes meanwhile."""
FASTEST = 4096 * MIB
"""Bytes that clients on the loopback interface may add to the memory per second: the memory is looked at again when
that could have used up what is left."""
SLOW_INTERVAL = 0.25
"""Seconds between two looks at the times of all calls, and most seconds between two looks at the memory."""
MIN_AGE = 0.05
"""Seconds that a call waits for its client before it can be ended for the memory that it may hold."""
MIN_UNREAD = 1.0
"""Seconds that a reply waits for its client before it can be ended for the memory that others wait for."""
EVICTED_AT_ONCE = 16
"""Calls that are ended after one look."""
MIN_EXCESS = 32 * MIB
"""Bytes that are not reserved from which calls are ended, if a quarter of the limit is not more."""
BATCHES = 64 * MIB
"""Bytes for the batches in the sessions, which ONNX Runtime keeps when they have been run."""
TOLERATED = 16 * MIB
"""Bytes that a process without calls may keep until it returns them."""
TRIM_SECONDS = 1.0
"""Seconds between two requests to the allocator to return free memory to the system."""


class GuardObserver(MemoryObserver, Protocol):
    """Receives what the guard sees, for metrics. Called from the event loop's thread."""

    def call_evicted(self, reason: str) -> None:
        """Record that a call was ended: for "memory", because its reply was "unread", or for its "time"."""


def pause_before_next(left: int) -> float:
    """Return the seconds until the next look at the memory.

    Args:
        left: bytes that may be held until calls must end.
    """
    return min(max(INTERVAL, left / FASTEST), SLOW_INTERVAL)


class Guard:
    """Watches the calls and the memory of a process while `run` runs."""

    def __init__(
        self,
        limiters: Sequence[CallLimiter[Call]],
        budget: MemoryBudget,
        *,
        transfer_seconds: float,
        idle_seconds: float,
        models_memory: Callable[[], int] = lambda: 0,
        watch_memory: Callable[[int, int], int] = lambda excess, most: 0,
        held_memory: Callable[[], int] = lambda: 0,
        observer: GuardObserver | None = None,
    ) -> None:
        """Create a guard, in a process that serves no calls yet.

        Args:
            limiters: all limiters, which know the calls.
            budget: the memory of the process.
            transfer_seconds: how long a request may take to arrive, and a reply to be taken.
            idle_seconds: how long a stream may wait for its client.
            models_memory: estimates the memory of the models that are loaded, in bytes.
            watch_memory: see `Front.watch_memory`; called in a thread.
            held_memory: see `Front.held_memory`.
            observer: receives the state of the budget, and why calls are ended.
        """
        self._limiters = limiters
        self._budget = budget
        self._transfer_seconds = transfer_seconds
        self._idle_seconds = idle_seconds
        self._observer = observer
        self._models_memory = models_memory
        self._watch_memory = watch_memory
        self._held_memory = held_memory
        self._models_at_start = models_memory()
        self._later_models = 0
        trim()  # What is free now would hide as much of what calls hold later.
        self._base = resident_memory()
        self._trimmed = 0.0
        self._is_trimmed = False
        self._looked = 0.0
        self._is_awaited = False
        self._ended_connections = 0

    async def run(self) -> None:
        """Watch until the task is cancelled."""
        loop, stopped = asyncio.get_running_loop(), threading.Event()
        threading.Thread(target=self._watch, args=(loop, stopped), name="partedvae-guard", daemon=True).start()
        try:
            await loop.create_future()
        finally:
            stopped.set()

    def _watch(self, loop: asyncio.AbstractEventLoop, stopped: threading.Event) -> None:
        """Wake the event loop whenever it should look, until stopped."""
        pause = INTERVAL
        while not stopped.wait(pause):
            try:
                excess = self._excess()
                left = self._largest_excess - excess
                if not self._is_awaited and self._is_due(left):
                    self._is_awaited = True
                    loop.call_soon_threadsafe(self._look_and_go_on)
                self._ended_connections += self._watch_memory(excess, self._largest_excess)
                pause = pause_before_next(left)
            except Exception:  # The server must not go on unguarded.
                if loop.is_closed():
                    return
                logger.exception("a check of the memory failed")
                pause = SLOW_INTERVAL

    def _is_due(self, left: int) -> bool:
        """Return whether the event loop should look, with so many bytes left until calls must end."""
        is_short = self._budget.messages.is_short or self._budget.work.is_short
        return left <= 0 or is_short or time.monotonic() - self._looked > SLOW_INTERVAL

    def _look_and_go_on(self) -> None:
        try:
            self.look()
        except Exception:  # The server must not go on unguarded.
            logger.exception("a check of the calls failed")
            asyncio.get_running_loop().call_later(SLOW_INTERVAL, self._await_next)
        else:
            self._await_next()

    def _await_next(self) -> None:
        self._is_awaited = False

    def look(self) -> None:
        """End the calls that have no claim to go on."""
        now = time.monotonic()
        self._check_memory(now)
        pools = (self._budget.messages, self._budget.work)
        if any(pool.is_short for pool in pools):
            for pool in pools:
                pool.is_short = False
            self._end_unread(now)
        if self._observer is not None:
            ended, self._ended_connections = self._ended_connections, 0
            for _ in range(ended):
                self._observer.call_evicted("memory")
        if now - self._looked > SLOW_INTERVAL:
            self._looked = now
            self._later_models = max(0, self._models_memory() - self._models_at_start)
            self._check_times(now)
            if self._observer is not None:
                self._budget.report(self._observer)

    @property
    def _largest_excess(self) -> int:
        """Bytes that are not reserved from which calls end: a quarter of the limit."""
        return max(MIN_EXCESS, self._budget.limit // 4)

    def _excess(self) -> int:
        """Return the bytes of memory that are not reserved."""
        reserved = self._budget.messages.reserved + self._budget.work.reserved
        return resident_memory() - self._base - self._later_models - BATCHES - reserved

    def _check_memory(self, now: float) -> None:
        """End calls if the process holds a quarter of its limit more than what is reserved."""
        reserved = self._budget.messages.reserved + self._budget.work.reserved
        excess = self._excess()
        if excess < self._largest_excess:
            if excess > TOLERATED and not reserved:
                self._settle(now, excess)
            return
        # The youngest first: a stream that has been idle for long holds nothing.
        min_age = MIN_AGE if excess < self._budget.limit // 2 else 0.0
        calls = [
            call
            for call in self._calls()
            if call.holds_since and now - call.holds_since > (MIN_UNREAD if call.sending_since else min_age)
        ]
        calls.sort(key=lambda call: call.holds_since, reverse=True)
        for call in calls[:EVICTED_AT_ONCE]:
            self._evict(call, "memory", "the memory of the server is exhausted, and this call waited for its client")
        if now - self._trimmed > TRIM_SECONDS:
            self._trimmed = now
            if calls:
                logger.warning(
                    "requests that have not arrived, or replies that are not taken, hold %d MiB; ended %d calls",
                    excess // MIB,
                    min(len(calls), EVICTED_AT_ONCE),
                )
            self._is_trimmed = True
            asyncio.get_running_loop().run_in_executor(None, trim)
        elif not reserved:
            self._settle(now, excess)

    def _settle(self, now: float, excess: int) -> None:
        """Return free memory to the system while no call holds any; what remains is not of calls.

        What the connections of the front hold is not of calls either, but may become more.
        """
        remains = excess - self._held_memory()
        if remains <= TOLERATED or any(call.holds_since for call in self._calls()):
            return
        if now - self._trimmed > TRIM_SECONDS:
            self._trimmed = now
            self._is_trimmed = True
            asyncio.get_running_loop().run_in_executor(None, trim)
        elif self._is_trimmed and now - self._trimmed > TRIM_SECONDS / 2:
            # Models that were loaded later, or fragments.
            self._base += remains
            self._is_trimmed = False

    def _end_unread(self, now: float) -> None:
        """End a call whose reply is not taken, of the connection that holds most, because another found no memory."""
        held: Counter[str] = Counter()
        for call in self._calls():
            held[call.connection] += call.held
        unread = [call for call in self._calls() if call.sending_since and now - call.sending_since > MIN_UNREAD]
        if unread:
            call = max(unread, key=lambda call: (held[call.connection], -call.sending_since))
            self._evict(call, "unread", "others need the memory of this reply, which was not taken")

    def _check_times(self, now: float) -> None:
        for call in list(self._calls()):
            seconds = self._idle_seconds if call.is_stream and not call.sending_since else self._transfer_seconds
            since = call.sending_since or call.idle_since
            if since and now - since > seconds:
                self._evict(call, "time", f"the call waited for its client for {seconds:g} s, which is the limit")

    def _evict(self, call: Call, cause: str, reason: str) -> None:
        if call.evict(reason) and self._observer is not None:
            self._observer.call_evicted(cause)

    def _calls(self) -> Iterator[Call]:
        for limiter in self._limiters:
            yield from limiter
