"""One unary call of the native front, from its request until its reply was handed over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import grpc

from partedvae.errors import PUSHBACK
from partedvae.serving.grpc.call_record import CallRecord
from partedvae.serving.grpc.errors import INTERNAL_TEXT, RpcError
from partedvae.serving.grpc.method import COPIES, Method
from partedvae.serving.grpc.native.traffic import ClientTraffic
from partedvae.serving.inline_task import InlineTask, on_event_loop
from partedvae.serving.memory_budget import MemoryBudget
from partedvae.serving.request_memory import RequestMemory, request_memory

if TYPE_CHECKING:
    from pygrpc_native import NativeGrpcFront

INTERNAL: int = grpc.StatusCode.INTERNAL.value[0]

Details: TypeAlias = tuple[tuple[tuple[str, str | bytes], ...], str, float | None]
"""Metadata, peer, and seconds until the deadline."""

Respond: TypeAlias = Callable[[Any, None], Coroutine[Any, Any, Any]]
"""A method of a service."""


class Joined(Protocol):
    """Answers requests for one image each together."""

    def split(self, raw: bytes) -> tuple[Any, bytes] | None:
        """Return what requests must have in common to be joined, and the rest; None if a request cannot be joined."""

    async def replies(self, kind: Any, parts: Sequence[bytes]) -> list[bytes]:
        """Return the serialized reply to each request of a kind; raise if one of them fails."""


@dataclass(frozen=True, slots=True, eq=False)
class NativeMethod:
    """A method that the native front serves."""

    method: Method
    """Its messages and limits."""
    respond: Respond
    """Returns the reply to a request; the second argument is gRPC's context, which no method needs."""
    joined: Joined | None = None
    """Answers several requests together, where the method can."""


class Group(Protocol):
    """Calls that are answered together."""

    def call_cancelled(self, call: NativeCall) -> None:
        """Record that one of them needs no reply."""


class NativeCall(InlineTask):
    """A call. Each step runs in one thread, but not always in the same."""

    __slots__ = (
        "_budget",
        "_calls",
        "_client",
        "_deadline",
        "_details",
        "_executor",
        "_front",
        "_id",
        "_served",
        "connection",
        "group",
        "is_admitted",
    )

    is_stream = False
    waits_since = idle_since = holds_since = sending_since = 0.0
    """Its request has arrived, and its reply is the front's: it never waits for its client."""

    def __init__(
        self,
        front: NativeGrpcFront,
        served: NativeMethod,
        calls: dict[int, NativeCall],
        number: int,
        client: ClientTraffic,
        details: Details | None,
        budget: MemoryBudget,
        executor: Executor,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Create a call that has arrived.

        Args:
            front: sends the reply.
            served: its method.
            calls: all calls of the front by number, to which this one belongs until it has ended.
            number: its number.
            client: counts its reply.
            details: metadata and deadline; None if they are not needed.
            budget: the memory of the process.
            executor: threads that parse large messages.
            loop: for what cannot be done without an event loop.
        """
        super().__init__(loop)
        self._front = front
        self._served = served
        self._calls = calls
        self._id = number
        self._details = details
        self._client = client
        remaining = None if details is None else details[2]
        self._deadline = None if remaining is None else time.monotonic() + remaining
        self._budget = budget
        self._executor = executor
        self.connection = client.peer
        """The client's address and port."""
        self.is_admitted = False
        """Whether the call has its place in the limiter."""
        self.group: Group | None = None
        """Calls that are answered together with this one."""
        calls[number] = self

    @property
    def held(self) -> int:
        """Bytes of the memory budget that the request holds."""
        return 0 if self.memory is None else self.memory.held

    def evict(self, reason: str) -> bool:
        """Return false: a call that never waits for its client is not ended for others."""
        return False

    def code(self) -> None:
        """Return no status, as gRPC's context does before there is one."""

    def time_remaining(self) -> float | None:
        """Return the seconds until the deadline; None if there is none."""
        return None if self._deadline is None else self._deadline - time.monotonic()

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """Return the metadata of the request."""
        return () if self._details is None else self._details[0]

    def cancel(self) -> None:
        """Answer the call no more; see `InlineTask.cancel`."""
        group = self.group
        super().cancel()
        if group is not None:
            group.call_cancelled(self)

    async def answer(self, raw: bytes, record: CallRecord | None = None) -> None:
        """Parse the request, and send the reply or the status of an error.

        Args:
            raw: the request.
            record: the record of the call, if it has one already.
        """
        if record is None:
            record = CallRecord(self._served.method.name, self._served.method.policy.observer, self)
        reply, status = b"", None
        try:
            try:
                reply = await self._reply(raw, record)
            except BaseException as error:
                status = record.failed(error)
            if status is None:
                if self.send(reply):
                    record.end("OK")
                else:
                    record.cancelled()
            else:
                self._fail(status)
        except Exception:  # Of the package itself: the client must not wait for a reply.
            self._front.fail(self._id, INTERNAL, INTERNAL_TEXT)
            raise
        finally:
            self.end()

    def send(self, reply: bytes) -> bool:
        """Send the reply; return whether the client still waits for it."""
        self._client.sent += len(reply)
        return self._front.respond(self._id, reply)

    def end(self) -> None:
        """Return the place and the memory of the call, which has its reply; once."""
        if self._calls.pop(self._id, None) is None:
            return
        self._served.method.policy.limiter.release_call(self)
        if self.memory is not None:
            self.memory.release()

    async def _reply(self, raw: bytes, record: CallRecord) -> bytes:
        method = self._served.method
        if not self.is_admitted:
            await method.policy.limiter.reject(self.connection)
        size = method.check_size(raw)
        self.memory = memory = RequestMemory(self._budget, self.connection)
        request_memory.set(memory)
        memory.reserve_message(COPIES * size)
        if method.can_parse_here(raw):
            request = method.parse(raw)
        else:
            request = await self._in_thread(method.check_and_parse, raw)
        del raw
        reply = await self._served.respond(record.count_images(request), None)
        del request
        if method.can_serialize_here(reply, memory.held):
            return method.serialize(reply)
        serialized: bytes = await self._in_thread(method.serialize, reply)
        return serialized

    async def _in_thread(self, work: Callable[[Any], Any], argument: Any) -> Any:
        """Run what takes long in a thread that no other call waits for."""
        await on_event_loop()
        return await self._loop.run_in_executor(self._executor, work, argument)

    def _fail(self, status: RpcError) -> None:
        # The package refuses this trailer, because its name begins with "grpc-"; the details have the same advice.
        metadata = [entry for entry in status.trailing_metadata if entry[0] != PUSHBACK]
        self._front.fail(self._id, status.code.value[0], status.details, metadata or None)
