"""Joins the calls of concurrent tasks into messages; `partedvae.coalescing` has the rules."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message as Request

from partedvae import forks
from partedvae.backoff import Backoff
from partedvae.channel import Metadata
from partedvae.coalescing import Policy, Queue, Sender, failure_of, parts_of
from partedvae.errors import PartedVAEError, deadline_error
from partedvae.joined_calls import Message, PendingCall

Result = TypeVar("Result")


class AsyncSender(Sender, Protocol):
    """The part of `AsyncTransport` that sends messages."""

    def send(
        self, method: Callable[[Any], Any], request: Request, timeout: float | None, metadata: Metadata
    ) -> grpc.aio.UnaryUnaryCall[Any, Any]:
        """Send a message once."""

    def cancelled(self) -> BaseException:
        """Return the exception for a call that was not finished: the client was closed, or the event loop ends."""


class AsyncCoalescer:
    """The waiting calls of one event loop."""

    def __init__(self, sender: AsyncSender, policy: Policy) -> None:
        """Prepare to join calls.

        Args:
            sender: sends messages.
            policy: when waiting calls are sent.
        """
        self._sender = sender
        self._policy = policy
        self._queues: dict[Hashable, Queue] = {}
        self._timers: dict[Hashable, asyncio.Handle] = {}
        self._deadlines: dict[Message, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def call(self, pending: PendingCall[Result]) -> Result:
        """Send a call together with others; return its own result, or raise its own error."""
        backoff = Backoff(self._sender.timeout)
        while True:
            try:
                return await self._attempt(pending, backoff.remaining)
            except PartedVAEError as failure:
                delay = backoff.delay(failure)
                if delay is None or not forks.works():
                    raise
            await asyncio.sleep(delay)

    def close(self) -> None:
        """Fail the calls that wait to be sent; those that were sent fail with their connection."""
        for queue in list(self._queues.values()):
            self._stop_timer(queue)
            for message in queue.take():
                self._fail(message, lambda _: self._sender.cancelled())

    async def _attempt(self, pending: PendingCall[Result], timeout: float | None) -> Result:
        """Wait for the result of one message, for at most the time that this caller has left."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        pending.begin(future, self._sender.metadata(), timeout)
        try:
            self._add(pending)
            return await future
        finally:
            if pending.waiter is not None:
                pending.waiter = None
                self._leave(pending)

    def _add(self, pending: PendingCall[Any]) -> None:
        """Let a call wait for others, or send it where it cannot share a message."""
        queue = self._queues.get(pending.key)
        if queue is None:
            queue = self._queues[pending.key] = Queue(pending.key)
        if pending.is_alone:
            self._send(queue, Message([pending]))
            return
        if not queue.fits(pending):
            self._flush(queue)
        if queue.add(pending, self._policy.max_wait):
            self._flush(queue)
        elif queue.key not in self._timers:
            self._start_timer(queue)

    def _start_timer(self, queue: Queue) -> None:
        loop = asyncio.get_running_loop()
        if queue.in_flight < self._policy.in_flight:
            # In the next turn of the event loop, so that all tasks that are ready now send together.
            self._timers[queue.key] = loop.call_soon(self._flush, queue)
        else:
            self._timers[queue.key] = loop.call_later(self._policy.max_wait, self._flush, queue)

    def _stop_timer(self, queue: Queue) -> None:
        timer = self._timers.pop(queue.key, None)
        if timer is not None:
            timer.cancel()

    def _flush(self, queue: Queue) -> None:
        """Send what waits."""
        self._stop_timer(queue)
        for message in queue.take(self._policy.in_flight - queue.in_flight):
            self._send(queue, message)

    def _send(self, queue: Queue, message: Message) -> None:
        queue.in_flight += 1
        task = asyncio.get_running_loop().create_task(self._exchange(queue, message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _exchange(self, queue: Queue, message: Message) -> None:
        """Send a message, and give each call its result or its error."""
        self._watch(message)
        try:
            results = message.results(await message.send(self._sender.send))
        except asyncio.CancelledError:
            self._fail(message, lambda _: self._sender.cancelled())
            raise
        except Exception as error:
            self._divide_or_fail(queue, message, error)
        else:
            for pending, result in zip(message.calls, results, strict=True):
                future, pending.waiter = pending.waiter, None
                if future is not None and not future.done():
                    future.set_result(result)
        finally:
            if message in self._deadlines:
                self._deadlines.pop(message).cancel()
            queue.in_flight -= 1
            if queue.calls and queue.in_flight < self._policy.in_flight:
                self._stop_timer(queue)
                self._start_timer(queue)
            self._forget_if_unused(queue)

    def _watch(self, message: Message) -> None:
        """Start a timer for the next deadline of a caller: one per message costs less than one per call."""
        waiting = [call.deadline for call in message.calls if call.waiter is not None and not call.waiter.done()]
        next_deadline = min(waiting, default=math.inf)
        if next_deadline < math.inf:
            delay = max(next_deadline - time.monotonic(), 0)
            self._deadlines[message] = asyncio.get_running_loop().call_later(delay, self._expire, message)

    def _expire(self, message: Message) -> None:
        """Fail the calls whose own deadline has passed; the others go on."""
        now = time.monotonic()
        for call in message.calls:
            if call.waiter is not None and not call.waiter.done() and call.deadline <= now:
                call.waiter.set_exception(deadline_error(self._sender.address))
        self._watch(message)

    def _divide_or_fail(self, queue: Queue, message: Message, error: Exception) -> None:
        """Send the calls of a failed message in parts, or give each its error."""
        parts = parts_of(message, error, self._sender)
        for part in parts:
            self._send(queue, part)
        if not parts:
            self._fail(message, lambda pending: failure_of(pending, error, self._sender))

    def _fail(self, message: Message, failure: Callable[[PendingCall[Any]], BaseException]) -> None:
        for pending in message.calls:
            future, pending.waiter = pending.waiter, None
            if future is None or future.done():
                continue
            error = failure(pending)
            if isinstance(error, asyncio.CancelledError):
                future.cancel()
            else:
                future.set_exception(error)

    def _leave(self, pending: PendingCall[Any]) -> None:
        """Forget a call whose caller has given up; the others of its message go on."""
        message = pending.message
        if message is None:
            queue = self._queues[pending.key]
            queue.remove(pending)
            if not queue.calls:
                self._stop_timer(queue)
                self._forget_if_unused(queue)
            return
        message.waiting -= 1
        if not message.waiting and message.rpc is not None:
            message.rpc.cancel()

    def _forget_if_unused(self, queue: Queue) -> None:
        if not queue.calls and not queue.in_flight:
            self._queues.pop(queue.key, None)
