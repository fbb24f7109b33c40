"""What one request holds of the memory budget, which the code that serves it finds by a context variable."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from contextvars import ContextVar

from partedvae.serving.memory_budget import MemoryBudget


class RequestMemory:
    """What one request holds of the budget, until `release`."""

    __slots__ = (
        "_before",
        "_budget",
        "_is_settled",
        "_messages",
        "_messages_waited",
        "_next",
        "_owner",
        "_work",
        "_work_waited",
    )

    def __init__(self, budget: MemoryBudget, owner: Hashable = None, before: RequestMemory | None = None) -> None:
        """Hold nothing yet.

        Args:
            budget: the budget of the process.
            owner: who takes turns with other owners when requests wait, such as a connection.
            before: the previous request of the same stream, if its reply must be sent first.
        """
        self._budget = budget
        self._owner = owner
        self._before = before
        self._is_settled = False
        self._next: asyncio.Future[None] | None = None
        self._messages = self._messages_waited = 0
        self._work = self._work_waited = 0

    @property
    def held(self) -> int:
        """Bytes that the request holds of both pools."""
        return self._messages + self._messages_waited + self._work + self._work_waited

    @property
    def message_bytes(self) -> int:
        """Bytes of `messages` that the request holds."""
        return self._messages + self._messages_waited

    def reserve_message(self, size: int) -> None:
        """Reserve bytes of `messages`; errors are those of `MemoryPool.reserve`."""
        self._budget.messages.reserve(size)
        self._messages += size

    async def wait_for_message(self, size: int) -> None:
        """Reserve bytes of `messages` when there is capacity; errors are those of `MemoryPool.wait`."""
        await self._budget.messages.wait(size, self._owner)
        self._messages_waited += size

    def give_back_message(self, size: int) -> None:
        """Return some bytes of `messages`; nothing happens if everything was returned, because the call has ended."""
        if self._messages:
            self._messages -= size
            self._budget.messages.release(size)
        elif self._messages_waited:
            self._messages_waited -= size
            self._budget.messages.release(size, waited=True)

    def reserve(self, size: int) -> None:
        """Reserve bytes of `work`; errors are those of `MemoryPool.reserve`."""
        self._budget.work.reserve(size)
        self._work += size

    async def wait(self, size: int) -> None:
        """Reserve bytes of `work` when there is capacity; errors are those of `MemoryPool.wait`.

        The requests of a stream get it in their order: later ones would otherwise hold what an earlier one waits for,
        and could not return it, because their replies are sent after its own.
        """
        try:
            if self._before is not None:
                await self._before._settled()
                self._before = None
            await self._budget.work.wait(size, self._owner)
            self._work_waited += size
        finally:
            self._settle()

    def give_back(self, size: int) -> None:
        """Return some bytes of `work`; nothing happens if everything was returned, because the call has ended."""
        if self._work_waited:
            self._work_waited -= size
            self._budget.work.release(size, waited=True)
        elif self._work:
            self._work -= size
            self._budget.work.release(size)

    def release_message(self) -> None:
        """Return everything of `messages`, when the request is not needed any more."""
        messages, waited = self._messages, self._messages_waited
        self._messages = self._messages_waited = 0
        if messages:
            self._budget.messages.release(messages)
        if waited:
            self._budget.messages.release(waited, waited=True)

    def release(self) -> None:
        """Return everything."""
        self.release_message()
        work, waited = self._work, self._work_waited
        self._work = self._work_waited = 0
        if work:
            self._budget.work.release(work)
        if waited:
            self._budget.work.release(waited, waited=True)
        self._before = None
        self._settle()

    async def _settled(self) -> None:
        """Wait until the request has its memory, or needs none any more."""
        if not self._is_settled:
            self._next = asyncio.get_running_loop().create_future()
            await self._next

    def _settle(self) -> None:
        self._is_settled = True
        if self._next is not None and not self._next.done():
            self._next.set_result(None)


request_memory: ContextVar[RequestMemory] = ContextVar("request_memory")
"""What the request of the current task holds."""
