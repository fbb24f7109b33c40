"""Tests of `partedvae.serving.inline_task`: which thread runs what, and what happens to a task that is cancelled."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Generator
from typing import Any

import pytest

from partedvae.serving.inline_task import InlineTask, is_inline, on_event_loop
from partedvae.serving.memory_budget import MIB, MemoryBudget
from partedvae.serving.request_memory import RequestMemory, request_memory
from tests.processes import PATIENCE


class Work:
    """Work that the test ends by hand."""

    def __init__(self) -> None:
        self.task: InlineTask | None = None
        self.is_started = False
        self.is_done = False

    def __await__(self) -> Generator[Work, Any, Any]:
        return (yield self)

    def start(self) -> None:
        self.is_started = True

    def abandon(self) -> bool:
        was_done, self.is_done = self.is_done, True
        return not was_done

    def end(self, result: Any) -> None:
        """Resume the task with a result or an exception, in this thread."""
        assert self.task is not None
        assert self.abandon(), "the work has ended"
        self.task.resume(result)


class Steps:
    """What a coroutine has done."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.ended = asyncio.Event()

    async def two_works(self, first: Work, second: Work) -> None:
        """Wait for two works, without an event loop."""
        try:
            self.seen.append(await first)
            self.seen.append(await second)
        except BaseException as error:
            self.seen.append(type(error))
            raise
        finally:
            self.seen.append("end")

    async def on_loop(self, wait: asyncio.Event) -> None:
        """Continue on the event loop, and wait there."""
        try:
            self.seen.append(is_inline())
            await on_event_loop()
            self.seen.append(is_inline())
            await wait.wait()
        except BaseException as error:
            self.seen.append(type(error))
            raise
        finally:
            self.seen.append("end")
            self.ended.set()


async def in_thread(work: Any, *args: Any) -> Any:
    """Call a function in a thread that has no event loop."""
    return await asyncio.wait_for(asyncio.to_thread(work, *args), PATIENCE)


async def test_results_arrive_in_the_thread_that_has_them() -> None:
    """What a coroutine awaits is returned to be started, or started by the step that awaits it."""
    first, second, steps = Work(), Work(), Steps()
    task = InlineTask(asyncio.get_running_loop())
    assert await in_thread(task.begin, steps.two_works(first, second)) is first
    assert not first.is_started, "whoever begins a task starts its work, perhaps with others"
    await in_thread(first.end, 1)
    assert second.is_started
    await in_thread(second.end, 2)
    assert steps.seen == [1, 2, "end"]


async def test_exceptions_are_raised_where_the_coroutine_waits(caplog: pytest.LogCaptureFixture) -> None:
    """The thread that has the exception goes on; one that the coroutine does not handle is logged."""
    first, steps = Work(), Steps()
    task = InlineTask(asyncio.get_running_loop())
    await in_thread(task.begin, steps.two_works(first, Work()))
    with caplog.at_level(logging.ERROR):
        await in_thread(first.end, ValueError("bad"))
    assert steps.seen == [ValueError, "end"]
    assert "a call failed" in caplog.text
    assert "ValueError: bad" in caplog.text


async def test_cancel_while_it_waits() -> None:
    """The coroutine is cancelled at once, in the thread that cancels, and the work is given up."""
    first, steps = Work(), Steps()
    task = InlineTask(asyncio.get_running_loop())
    await in_thread(task.begin, steps.two_works(first, Work()))
    await in_thread(task.cancel)
    assert steps.seen == [asyncio.CancelledError, "end"]
    assert first.is_done
    await in_thread(task.cancel)  # Without effect.
    assert steps.seen == [asyncio.CancelledError, "end"]


async def test_cancel_while_it_runs() -> None:
    """The coroutine is cancelled where it waits next, and what it waits for is not started."""
    first, second, steps = Work(), Work(), Steps()
    task = InlineTask(asyncio.get_running_loop())
    running, go_on = threading.Event(), threading.Event()

    async def busy() -> None:
        await first
        running.set()
        assert go_on.wait(PATIENCE)
        await steps.two_works(second, Work())

    await in_thread(task.begin, busy())
    step = asyncio.create_task(in_thread(first.end, None))
    await in_thread(running.wait, PATIENCE)
    await in_thread(task.cancel)
    assert steps.seen == []
    go_on.set()
    await step
    assert steps.seen == [asyncio.CancelledError, "end"]
    assert not second.is_started


async def test_cancel_before_it_begins() -> None:
    """The coroutine still runs until it waits, and returns what it holds."""
    steps = Steps()
    task = InlineTask(asyncio.get_running_loop())
    await in_thread(task.cancel)
    assert await in_thread(task.begin, steps.two_works(Work(), Work())) is None
    assert steps.seen == [asyncio.CancelledError, "end"]


async def test_cancel_when_the_result_is_there() -> None:
    """A result that arrives at the same moment counts; the coroutine is cancelled where it waits next."""
    first, second, steps = Work(), Work(), Steps()
    task = InlineTask(asyncio.get_running_loop())
    await in_thread(task.begin, steps.two_works(first, second))
    assert first.abandon()  # By the thread that has the result, and has not resumed the task yet.
    await in_thread(task.cancel)
    assert steps.seen == []
    await in_thread(task.resume, 1)
    assert steps.seen == [1, asyncio.CancelledError, "end"]


async def test_the_rest_runs_on_the_event_loop() -> None:
    wait, steps = asyncio.Event(), Steps()
    task = InlineTask(asyncio.get_running_loop())
    assert await in_thread(task.begin, steps.on_loop(wait)) is None
    wait.set()
    await asyncio.wait_for(steps.ended.wait(), PATIENCE)
    assert steps.seen == [True, False, "end"]


@pytest.mark.parametrize("moment", ["on its way", "scheduled", "waiting"])
async def test_cancel_of_what_runs_on_the_event_loop(moment: str) -> None:
    """The coroutine ends, and returns what it holds, also if it has not arrived there."""
    steps = Steps()
    task = InlineTask(asyncio.get_running_loop())

    def begin() -> None:
        assert task.begin(steps.on_loop(asyncio.Event())) is None
        if moment == "on its way":
            task.cancel()

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()  # The event loop stands still meanwhile.
    if moment == "scheduled":
        task.cancel()
    elif moment == "waiting":
        while len(steps.seen) < 2:
            await asyncio.sleep(0)
        await in_thread(task.cancel)
    await asyncio.wait_for(steps.ended.wait(), PATIENCE)
    assert steps.seen == [True, False, asyncio.CancelledError, "end"]


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_task_that_begins_on_the_event_loop(is_cancelled: bool) -> None:
    """It is an ordinary task there, and ends even if it is cancelled before its first step."""
    wait, steps = asyncio.Event(), Steps()
    task = InlineTask(asyncio.get_running_loop())
    assert task.begin(steps.on_loop(wait)) is None
    if is_cancelled:
        task.cancel()
    else:
        wait.set()
    await asyncio.wait_for(steps.ended.wait(), PATIENCE)
    assert steps.seen == [False, False, *([asyncio.CancelledError] if is_cancelled else []), "end"]


async def test_each_step_finds_the_memory_of_its_request() -> None:
    """In every thread, also after another request has run there, and on the event loop."""
    budget = MemoryBudget(MIB)
    ended = [asyncio.Event(), asyncio.Event()]

    async def coroutine(task: InlineTask, work: Work, found: list[RequestMemory], end: asyncio.Event) -> None:
        task.memory = RequestMemory(budget)
        request_memory.set(task.memory)
        found.append(request_memory.get())
        await work
        found.append(request_memory.get())
        await on_event_loop()
        found.append(request_memory.get())
        end.set()

    tasks = [InlineTask(asyncio.get_running_loop()) for _ in range(2)]
    works = [Work(), Work()]
    found: list[list[RequestMemory]] = [[], []]

    def run() -> None:
        for task, work, memories, end in zip(tasks, works, found, ended, strict=True):
            task.begin(coroutine(task, work, memories, end))
        for work in works:
            work.end(None)

    await in_thread(run)
    for end in ended:
        await asyncio.wait_for(end.wait(), PATIENCE)
    assert found == [[task.memory] * 3 for task in tasks]
    assert tasks[0].memory is not tasks[1].memory
