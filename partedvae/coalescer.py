"""Joins the calls of concurrent threads into messages; `partedvae.coalescing` has the rules.

There is no thread of its own: a caller's thread sends a message, or the thread of gRPC that has received the answer to
an earlier one. The callers only wait, each for its own time.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf.message import Message as Request

from partedvae import forks
from partedvae.backoff import Backoff
from partedvae.channel import Metadata
from partedvae.coalescing import Policy, Queue, Sender, failure_of, parts_of
from partedvae.errors import PartedVAEError, deadline_error
from partedvae.joined_calls import Message, PendingCall

Result = TypeVar("Result")


class ThreadSender(Sender, Protocol):
    """The part of `Transport` that sends messages."""

    def send(
        self, method: Callable[[Any], Any], request: Request, timeout: float | None, metadata: Metadata
    ) -> grpc.Future[Any]:
        """Send a message once, without waiting."""


class _Waiter:
    """Lets one thread wait for its result. A lock that is held until then costs much less than an Event."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._woken = False
        self.queue: Queue | None = None
        """The queue that counts this thread among those that are woken."""
        self.result: Any = None
        self.error: BaseException | None = None

    def wake(self) -> None:
        """End the wait."""
        self._lock.release()

    def wait(self, seconds: float) -> bool:
        """Wait for at most this long; return whether the thread was woken."""
        if not self._woken:
            self._woken = self._lock.acquire(timeout=min(max(seconds, 0), threading.TIMEOUT_MAX))
        return self._woken


class Coalescer:
    """The waiting calls of all threads of a process."""

    def __init__(self, sender: ThreadSender, policy: Policy) -> None:
        """Prepare to join calls.

        Args:
            sender: sends messages.
            policy: when waiting calls are sent.
        """
        self._sender = sender
        self._policy = policy
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._queues: dict[Hashable, Queue] = {}

    def call(self, pending: PendingCall[Result]) -> Result:
        """Send a call together with others; return its own result, or raise its own error."""
        backoff = Backoff(self._sender.timeout)
        while True:
            try:
                return self._attempt(pending, backoff.remaining)
            except PartedVAEError as failure:
                delay = backoff.delay(failure)
                if delay is None or not forks.works():
                    raise
            time.sleep(delay)

    def close(self) -> None:
        """Fail the calls that wait to be sent; those that were sent fail with their connection."""
        with self._lock:
            waiting = [(queue, message) for queue in self._queues.values() for message in queue.take()]
        for queue, message in waiting:
            self._settle(queue, message.calls, [(None, self._sender.closed_error()) for _ in message.calls])

    def _attempt(self, pending: PendingCall[Result], timeout: float | None) -> Result:
        """Wait for the result of one message, for at most the time that this caller has left."""
        waiter = _Waiter()
        pending.begin(waiter, self._sender.metadata(), timeout)
        with forks.gate:
            try:
                if self._add(pending) and not waiter.wait(self._policy.max_wait):
                    self._flush(pending)
                if not waiter.wait(pending.deadline - time.monotonic()):
                    raise deadline_error(self._sender.address)
                if waiter.error is not None:
                    raise waiter.error
                result: Result = waiter.result
                return result
            finally:
                self._leave(pending, waiter)

    def _add(self, pending: PendingCall[Any]) -> bool:
        """Let a call wait for others, and send what waits no longer; return whether it is the first that waits."""
        with self._lock:
            queue = self._queues.get(pending.key)
            if queue is None:
                queue = self._queues[pending.key] = Queue(pending.key)
            messages = []
            if pending.is_alone:
                messages.append(Message([pending]))
            else:
                if not queue.fits(pending):
                    messages += queue.take()
                is_due = queue.add(pending, self._policy.max_wait)
                if is_due or (queue.in_flight < self._policy.in_flight and not queue.waking):
                    messages += queue.take()
            queue.in_flight += len(messages)
            is_first = queue.calls[:1] == [pending]
        for message in messages:
            self._send(queue, message)
        return is_first

    def _flush(self, pending: PendingCall[Any]) -> None:
        """Send what waits behind a call, if it waits itself."""
        with self._lock:
            queue = self._queues.get(pending.key)
            if queue is None or pending.message is not None or pending not in queue.calls:
                return
            messages = queue.take(self._policy.in_flight - queue.in_flight)
            queue.in_flight += len(messages)
        for message in messages:
            self._send(queue, message)

    def _send(self, queue: Queue, message: Message) -> None:
        """Send a message that is counted as in flight."""
        try:
            rpc = message.send(self._sender.send)
        except Exception as error:
            self._divide_or_fail(queue, message, error)
            self._answered(queue)
        else:
            rpc.add_done_callback(lambda rpc: self._receive(queue, message, rpc))

    def _receive(self, queue: Queue, message: Message, rpc: grpc.Future[Any]) -> None:
        """Give each call its result or its error, in the thread of gRPC."""
        if self._process != os.getpid():
            # After a fork, gRPC ends the calls of the parent in the child too, where no thread waits for them. Calls
            # that were sent from here would keep it from shutting down.
            return
        try:
            results = message.results(rpc.result())
        except grpc.FutureCancelledError:  # All callers have given up.
            pass
        except Exception as error:
            self._divide_or_fail(queue, message, error)
        else:
            self._settle(queue, message.calls, [(result, None) for result in results])
        self._answered(queue)

    def _settle(
        self, queue: Queue, calls: Sequence[PendingCall[Any]], outcomes: Iterable[tuple[Any, BaseException | None]]
    ) -> None:
        """Wake the callers with their results or errors."""
        waiters = list[_Waiter]()
        with self._lock:
            for pending, (result, error) in zip(calls, outcomes, strict=True):
                waiter, pending.waiter = pending.waiter, None
                if waiter is not None:
                    waiter.result, waiter.error, waiter.queue = result, error, queue
                    waiters.append(waiter)
            queue.waking += len(waiters)
        for waiter in waiters:
            waiter.wake()

    def _answered(self, queue: Queue) -> None:
        """Count a message as answered, and send what has waited for it."""
        with self._lock:
            queue.in_flight -= 1
            messages = self._take(queue)
        for message in messages:
            self._send(queue, message)

    def _take(self, queue: Queue) -> list[Message]:
        """Return what waits if it may be sent, counted as in flight. The lock must be held."""
        room = self._policy.in_flight - queue.in_flight
        messages = queue.take(room) if room > 0 else []
        queue.in_flight += len(messages)
        self._forget_if_unused(queue)
        return messages

    def _forget_if_unused(self, queue: Queue) -> None:
        if not queue.calls and not queue.in_flight and not queue.waking:
            self._queues.pop(queue.key, None)

    def _divide_or_fail(self, queue: Queue, message: Message, error: Exception) -> None:
        """Send the calls of a failed message in parts, or give each its error."""
        parts = parts_of(message, error, self._sender)
        with self._lock:
            queue.in_flight += len(parts)
        for part in parts:
            self._send(queue, part)
        if not parts:
            failures = [(None, failure_of(pending, error, self._sender)) for pending in message.calls]
            self._settle(queue, message.calls, failures)

    def _leave(self, pending: PendingCall[Any], waiter: _Waiter) -> None:
        """Forget a call that has ended, or whose caller has given up; the others of its message go on."""
        rpc, messages = None, list[Message]()
        with self._lock:
            queue = waiter.queue or self._queues.get(pending.key)
            if queue is None:
                return
            if waiter.queue is not None:
                # Threads that are woken together often call again: what they send is sent when all of them are awake.
                queue.waking -= 1
                messages = [] if queue.waking else self._take(queue)
            elif pending.message is not None:
                pending.message.waiting -= 1
                rpc = None if pending.message.waiting else pending.message.rpc
            elif pending in queue.calls:
                was_first = queue.calls[0] is pending
                queue.remove(pending)
                # It would have sent the others after a time.
                messages = queue.take() if was_first else []
                queue.in_flight += len(messages)
                self._forget_if_unused(queue)
            pending.waiter = None
        if rpc is not None:
            rpc.cancel()
        for message in messages:
            self._send(queue, message)
