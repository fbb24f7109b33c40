"""Runs coroutines without an event loop: each step in the thread that has what the coroutine waits for.

A call that only waits for a batch needs no event loop: it starts in the thread that received it, and continues in the
thread that ran its batch. What needs an event loop (a file to decode, a version to load, a queue to wait in) awaits
`on_event_loop` first, and the rest of the coroutine runs there. On an event loop the same coroutines are ordinary ones.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Generator
from contextvars import copy_context
from typing import Any, Protocol

from partedvae.serving.request_memory import RequestMemory, request_memory

logger = logging.getLogger(__name__)


class Awaited(Protocol):
    """What a coroutine without an event loop yields to wait for it."""

    task: InlineTask | None
    """The task that is resumed; set by the task before `start`."""

    def start(self) -> None:
        """Begin the work, after which `task.resume` is called once, in any thread, unless `abandon` returns true."""

    def abandon(self) -> bool:
        """Give up the result; return whether the task has not been resumed, and will not be."""


class _EventLoop:
    """Yielded by a coroutine that wants to continue on the event loop."""

    def __await__(self) -> Generator[_EventLoop, None, None]:
        yield self


_EVENT_LOOP = _EventLoop()


def is_inline() -> bool:
    """Return whether this thread runs no event loop."""
    return asyncio._get_running_loop() is None


async def on_event_loop() -> None:
    """Continue on the event loop of the task; return at once where the coroutine runs on one already."""
    if asyncio._get_running_loop() is None:
        await _EVENT_LOOP


class InlineTask:
    """A coroutine that runs inline as far as it can. It should raise nothing but `asyncio.CancelledError`."""

    __slots__ = ("_awaited", "_coroutine", "_is_cancelled", "_loop", "_task", "memory")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Create a task without a coroutine.

        Args:
            loop: where the coroutine continues if it awaits `on_event_loop`.
        """
        self._loop = loop
        self._coroutine: Coroutine[Any, Any, None]
        self._awaited: Awaited | None = None
        self._is_cancelled = False
        self._task: asyncio.Task[None] | None = None
        self.memory: RequestMemory | None = None
        """What the request holds, which the code that serves it finds by `request_memory`."""

    def begin(self, coroutine: Coroutine[Any, Any, None]) -> Awaited | None:
        """Run a coroutine until it ends or waits; the caller must start what it waits for.

        Returns:
            What it waits for; None if it has ended, or continues on the event loop, as all of it does if this is called
            there.
        """
        self._coroutine = coroutine
        if not is_inline():
            self._continue_on_event_loop()
            return None
        return self._step(None)

    def resume(self, result: Any) -> None:
        """Continue the coroutine with the result, or the exception, that it waits for, in the calling thread."""
        self._awaited = None
        if self.memory is not None:
            request_memory.set(self.memory)
        awaited = self._step(result)
        if awaited is not None:
            awaited.start()

    def cancel(self) -> None:
        """Raise CancelledError where the coroutine waits; if it is running, when it waits the next time."""
        self._is_cancelled = True
        awaited = self._awaited
        if awaited is not None:
            if awaited.abandon():
                self.resume(asyncio.CancelledError())
        else:
            self._loop.call_soon_threadsafe(self._cancel_task)

    def _step(self, result: Any) -> Awaited | None:
        coroutine = self._coroutine
        try:
            is_error = isinstance(result, BaseException)
            awaited: Awaited | _EventLoop = coroutine.throw(result) if is_error else coroutine.send(result)
        except (StopIteration, asyncio.CancelledError):
            return None
        except BaseException:
            logger.exception("a call failed")
            return None
        if isinstance(awaited, _EventLoop):
            self._loop.call_soon_threadsafe(self._continue_on_event_loop)
            return None
        awaited.task = self
        self._awaited = awaited
        if self._is_cancelled and awaited.abandon():
            self._awaited = None
            return self._step(asyncio.CancelledError())
        return awaited

    def _continue_on_event_loop(self) -> None:
        context = copy_context()
        if self.memory is not None:
            context.run(request_memory.set, self.memory)
        self._task = self._loop.create_task(self._coroutine, context=context)  # Tasks continue those that have started.
        if self._is_cancelled:
            self._cancel_task()

    def _cancel_task(self) -> None:
        if self._task is not None:
            # After its first step: a coroutine that is cancelled before would not begin, and return nothing it holds.
            self._loop.call_soon(self._task.cancel)
