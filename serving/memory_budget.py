"""The memory budget of a server process: every byte that a caller can make it hold is reserved here first.

The budget has two pools, so that a request whose message was accepted cannot wait for messages that wait for it:
- `messages`: requests that have arrived, until their reply has gone;
- `work`: what is made of them: decoded images, results and replies, until the reply has gone.

What is reserved is an upper bound of what the process allocates for a request. Requests that have not arrived
completely are in gRPC's buffers, whose size only the operating system knows: `partedvae.serving.grpc.guard` watches the
memory of the process as a whole. The memory of a process without requests (interpreter, libraries, models, one batch
per inference thread) is not a part of the budget.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Protocol

from partedvae.serving.errors import InvalidInputError, MemoryLimitError

MIB = 1024 * 1024

SMALL = 256
"""Requests of at most this part of the limit are small."""
SMALL_RESERVE = 8
"""Part of the limit that small requests may take beyond it."""
RETRY_AFTER = 0.5
"""Seconds after which a refused caller should retry: most requests are completed within."""


class MemoryObserver(Protocol):
    """Receives the state of the budget, for metrics. Called from the event loop's thread."""

    def memory_reserved(self, kind: str, size: int) -> None:
        """Record the reserved bytes of one pool, "messages" or "work"."""


class MemoryPool:
    """One pool of the budget. Thread-safe, except that only coroutines of an event loop can wait."""

    def __init__(self, limit: int) -> None:
        """Create a pool of `limit` bytes, none of which is reserved."""
        self.limit = limit
        self.reserved = 0
        """Bytes that are reserved."""
        self.is_short = False
        """Whether a request was refused, or waits, since this was last reset."""
        self.waited_for = 0
        """Bytes that `wait` has reserved since the start."""
        self._waited = 0
        self._wanted = 0
        # By owner, so that the waiting requests of one connection do not delay those of another.
        self._waiters: OrderedDict[Hashable, deque[_Waiter]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """Number of requests that wait."""
        return sum(map(len, self._waiters.values()))

    def check(self, size: int) -> None:
        """Check that a size can be reserved at all.

        Raises:
            InvalidInputError: it is above the limit.
        """
        if size > self.limit:
            raise InvalidInputError(
                f"the request needs {_mib(size)} of memory, above the limit of {_mib(self.limit)}; send fewer or "
                "smaller images per request, or start the server with a larger --memory-mb"
            )

    def reserve(self, size: int) -> None:
        """Reserve bytes now.

        Raises:
            InvalidInputError: the size is above the limit.
            MemoryLimitError: other requests hold too much at the moment.
        """
        with self._lock:
            taken, limit = self.reserved, self.limit
            if self._waiters:  # One half is theirs; the other half is for those that do not wait.
                taken, limit = taken - self._waited, limit // 2
            # Small requests find a place beside large ones that fill the pool.
            if self._is_small(size):
                limit += self.limit // SMALL_RESERVE
            if taken + size <= limit and self.reserved + size <= self._most:
                self.reserved += size
                return
        self.check(size)
        raise self._full()

    async def wait(self, size: int, owner: Hashable = None) -> None:
        """Reserve bytes as soon as there is capacity; return them by `release` with `waited`.

        Owners take turns; requests of one owner are served in order. Together they take at most half of the limit, or
        one request, so that requests that do not wait find capacity beside them. What waits is held too, so that it is
        bounded as well: by half of the limit, or one request.

        Raises:
            InvalidInputError: the size is above the limit.
            MemoryLimitError: too much waits already.
        """
        with self._lock:
            if not self._waiters and self._fits(size):
                self._admit(size)
                return
            self.check(size)
            most = self.limit if self._is_small(size) else self.limit // 2
            if self._wanted and self._wanted + size > most:
                raise self._full()
            self.is_short = True
            waiter = _Waiter(size)
            self._wanted += size
            self._waiters.setdefault(owner, deque()).append(waiter)
            if self._is_small(size):
                self._admit_waiters()  # A large one may be waiting, which this one may pass.
        try:
            await waiter.admitted
        except asyncio.CancelledError:
            with self._lock:
                if waiter in self._waiters.get(owner, ()):
                    self._remove(owner, waiter)
                    self._admit_waiters()  # Those who waited behind it.
                    raise
            if not waiter.admitted.cancelled():  # It was admitted at the same moment.
                self.release(size, waited=True)
            raise

    def release(self, size: int, *, waited: bool = False) -> None:
        """Return bytes, and admit those who wait.

        Args:
            size: how many.
            waited: whether they were reserved by `wait` rather than by `reserve`.
        """
        with self._lock:
            self.reserved -= size
            if waited:
                self._waited -= size
            assert 0 <= self._waited <= self.reserved, "more was returned than reserved"
            if self._waiters:
                self._admit_waiters()

    @property
    def _most(self) -> int:
        """The limit with what is for small requests alone."""
        return self.limit + self.limit // SMALL_RESERVE

    def _is_small(self, size: int) -> bool:
        return size <= self.limit // SMALL

    def _fits(self, size: int) -> bool:
        """Return whether a request that waits can be admitted."""
        has_share = self._waited + size <= self.limit // 2 or not self._waited
        return has_share and self.reserved + size <= (self._most if self._waiters else self.limit)

    def _admit(self, size: int) -> None:
        self.reserved += size
        self.waited_for += size
        self._waited += size

    def _admit_waiters(self) -> None:
        while (found := self._next_waiter()) is not None:
            owner, waiter = found
            self._waiters.move_to_end(owner)
            self._remove(owner, waiter)
            self._admit(waiter.size)
            waiter.admitted.get_loop().call_soon_threadsafe(self._wake, waiter)

    def _wake(self, waiter: _Waiter) -> None:
        """Tell a request that it was admitted, unless its task was cancelled meanwhile."""
        if waiter.admitted.cancelled():
            self.release(waiter.size, waited=True)
        else:
            waiter.admitted.set_result(None)

    def _next_waiter(self) -> tuple[Hashable, _Waiter] | None:
        """Return the first that fits; behind a large one that does not, only small ones go on."""
        is_blocked = False
        for owner, waiters in self._waiters.items():
            waiter = waiters[0]
            if (not is_blocked or self._is_small(waiter.size)) and self._fits(waiter.size):
                return owner, waiter
            is_blocked = True
        return None

    def _remove(self, owner: Hashable, waiter: _Waiter) -> None:
        waiters = self._waiters[owner]
        waiters.remove(waiter)
        self._wanted -= waiter.size
        if not waiters:
            del self._waiters[owner]

    def _full(self) -> MemoryLimitError:
        self.is_short = True
        return MemoryLimitError(self.reserved, self.limit, RETRY_AFTER)


class _Waiter:
    """A request that waits for capacity."""

    __slots__ = ("admitted", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class MemoryBudget:
    """The budget of a process, and its pools."""

    def __init__(self, limit: int) -> None:
        """Divide a budget of `limit` bytes."""
        self.limit = limit
        # With what is for small requests alone, three quarters; the last quarter is for what is not reserved.
        self.messages = MemoryPool(limit * 2 // 9)
        self.work = MemoryPool(limit * 4 // 9)

    def report(self, observer: MemoryObserver) -> None:
        """Report the reserved bytes of each pool."""
        observer.memory_reserved("messages", self.messages.reserved)
        observer.memory_reserved("work", self.work.reserved)


def _mib(size: int) -> str:
    return f"{size / MIB:,.1f} MiB"
