"""Calls of the native front that are answered together."""

from __future__ import annotations

import asyncio
from typing import Any

from partedvae.serving.grpc.call_record import CallRecord
from partedvae.serving.grpc.method import COPIES, Method
from partedvae.serving.grpc.native_call import Joined, NativeCall
from partedvae.serving.inline_task import Awaited, InlineTask
from partedvae.serving.memory_budget import MemoryBudget
from partedvae.serving.request_memory import RequestMemory, request_memory


class NativeGroup(InlineTask):
    """Calls that have their places in the limiter, and requests of the same kind."""

    __slots__ = ("_budget", "_joined", "_kind", "_method", "_parts", "_raws", "_records", "calls")

    def __init__(
        self, method: Method, joined: Joined, kind: Any, budget: MemoryBudget, loop: asyncio.AbstractEventLoop
    ) -> None:
        """Create a group without calls."""
        super().__init__(loop)
        self._method = method
        self._joined = joined
        self._kind = kind
        self._budget = budget
        self.calls: list[NativeCall] = []
        """The calls."""
        self._raws: list[bytes] = []
        self._parts: list[bytes] = []
        self._records: list[CallRecord] = []

    def add(self, call: NativeCall, raw: bytes, part: bytes) -> None:
        """Add a call with its request, and what the request does not have in common with the others."""
        self.calls.append(call)
        self._raws.append(raw)
        self._parts.append(part)
        if CallRecord.is_needed(self._method.policy.observer):
            record = CallRecord(self._method.name, self._method.policy.observer, call)
            record.images = 1
            self._records.append(record)

    def begin_answer(self) -> Awaited | None:
        """Begin to answer the calls; see `InlineTask.begin`."""
        return self.begin(self._answer())

    async def _answer(self) -> None:
        try:
            replies = await self._replies()
        except Exception:  # Of one of them, or of all: each call gets its own.
            self._release()
            self._answer_each()
            return
        sent = [call.send(reply) for call, reply in zip(self.calls, replies, strict=True)]
        for record, is_sent in zip(self._records, sent, strict=False):
            record.end("OK" if is_sent else "CANCELLED")
        self._release()
        for call in self.calls:
            call.end()

    async def _replies(self) -> list[bytes]:
        self.memory = memory = RequestMemory(self._budget, self.calls[0].connection)
        request_memory.set(memory)
        memory.reserve_message(COPIES * sum(map(len, self._raws)))
        return await self._joined.replies(self._kind, self._parts)

    def _release(self) -> None:
        if self.memory is not None:
            self.memory.release()

    def _answer_each(self) -> None:
        for call, raw in zip(self.calls, self._raws, strict=True):
            awaited = call.begin(call.answer(raw, is_admitted=True))
            if awaited is not None:
                awaited.start()
