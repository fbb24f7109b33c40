"""Calls of the native front that are answered together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from partedvae.serving.grpc.call_record import CallRecord
from partedvae.serving.grpc.method import COPIES, Method
from partedvae.serving.grpc.native.call import Joined, NativeCall
from partedvae.serving.inline_task import Awaited, InlineTask
from partedvae.serving.memory_budget import MemoryBudget
from partedvae.serving.request_memory import RequestMemory, request_memory


class NativeGroup(InlineTask):
    """Calls that have their places in the limiter, and requests of the same kind.

    Their rows are those of one request, so that they leave the queue together: when all calls are cancelled.
    """

    __slots__ = (
        "_budget",
        "_gone",
        "_has_begun",
        "_joined",
        "_kind",
        "_method",
        "_parts",
        "_raws",
        "_records",
        "calls",
    )

    def __init__(
        self, method: Method, joined: Joined, kind: Any, budget: MemoryBudget, loop: asyncio.AbstractEventLoop
    ) -> None:
        """Create a group without calls."""
        super().__init__(loop)
        self._method = method
        self._joined = joined
        self._kind = kind
        self._budget = budget
        self._has_begun = False
        self._gone: set[NativeCall] = set()
        self.calls: list[NativeCall] = []
        """The calls."""
        self._raws: list[bytes] = []
        self._parts: list[bytes] = []
        self._records: list[CallRecord] = []

    def add(self, call: NativeCall, raw: bytes, part: bytes) -> None:
        """Add a call with its request, and what the request does not have in common with the others."""
        call.group = self
        self.calls.append(call)
        self._raws.append(raw)
        self._parts.append(part)
        if CallRecord.is_needed(self._method.policy.observer):
            self._records.append(CallRecord(self._method.name, self._method.policy.observer, call))

    def begin_answer(self) -> Awaited | None:
        """Begin to answer the calls; see `InlineTask.begin`."""
        self._has_begun = True
        if len(self._gone) == len(self.calls):
            self.cancel()
        return self.begin(self._answer())

    def call_cancelled(self, call: NativeCall) -> None:
        """Record that a call needs no reply."""
        self._gone.add(call)
        if len(self._gone) == len(self.calls) and self._has_begun:
            self.cancel()

    async def _answer(self) -> None:
        try:
            replies = await self._replies()
        except asyncio.CancelledError:
            self._end([False] * len(self.calls))
            raise
        except Exception:  # Of one of them, or of all: each call gets its own.
            self._release()
            self._answer_each()
            return
        sent = [False] * len(self.calls)
        try:
            for number, (call, reply) in enumerate(zip(self.calls, replies, strict=True)):
                sent[number] = call.send(reply)
        finally:  # Also if the package fails: the calls must return their places and their memory.
            self._end(sent)

    async def _replies(self) -> list[bytes]:
        self.memory = memory = RequestMemory(self._budget, self.calls[0].connection)
        request_memory.set(memory)
        memory.reserve_message(COPIES * sum(map(len, self._raws)))
        return await self._joined.replies(self._kind, self._parts)

    def _end(self, sent: list[bool]) -> None:
        """Record and end the calls, of which some may not have got their replies."""
        for record, is_sent in zip(self._records, sent, strict=False):  # There may be no records.
            record.images = 1
            if is_sent:
                record.end("OK")
            else:
                record.cancelled()
        self._release()
        for call in self.calls:
            call.group = None  # A cycle would keep the requests in memory.
            call.end()

    def _release(self) -> None:
        if self.memory is not None:
            self.memory.release()

    def _answer_each(self) -> None:
        records: Sequence[CallRecord | None] = self._records or [None] * len(self.calls)
        for call, raw, record in zip(self.calls, self._raws, records, strict=True):
            call.group = None
            awaited = call.begin(call.answer(raw, record))
            if awaited is not None:
                awaited.start()
