"""Tests of `partedvae.serving.grpc.guard`: what it ends when memory or time runs out."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from partedvae.common.allocator import resident_memory
from partedvae.serving.grpc import guard as module
from partedvae.serving.grpc.calls import Call
from partedvae.serving.grpc.guard import EVICTED_AT_ONCE, INTERVAL, SLOW_INTERVAL, Guard, pause_before_next
from partedvae.serving.grpc.limiter import CallLimiter
from partedvae.serving.memory_budget import MIB, MemoryBudget
from tests.serving.gated_batches import eventually
from tests.serving.grpc.call_server import STREAM, UNARY, CallServer, running
from tests.serving.grpc.http2_client import Http2Client, framed

# gRPC uses the first event loop of the process that it sees, so that all tests share one.
pytestmark = pytest.mark.asyncio(loop_scope="module")


class FakeCall:
    """A call that waits, and notes why it was ended."""

    def __init__(
        self, *, reading: float = 0.0, sending: float = 0.0, is_idle: bool = True, is_stream: bool = True
    ) -> None:
        self.connection = "a"
        self.reading_since = reading
        self.sending_since = sending
        self.idle_since = reading if is_idle else 0.0
        self.holds_since = sending or reading
        self.waits_since = sending or self.idle_since
        self.is_stream = is_stream
        self.held = 0
        self.reasons: list[str] = []

    def evict(self, reason: str) -> bool:
        self.reasons.append(reason)
        return True


class Watched:
    """A guard over calls, in a process whose memory and clock the test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.memory = 1000 * MIB
        self.models = 0
        self.now = 10_000.0
        self.trimmed = 0
        self.asked = 0
        self.held = 0
        monkeypatch.setattr(module, "resident_memory", self._resident_memory)
        monkeypatch.setattr(module, "trim", self._trim)
        monkeypatch.setattr(module, "BATCHES", 0)
        self.budget = MemoryBudget(400 * MIB)
        self.limiter: CallLimiter[FakeCall] = CallLimiter(1000)
        self.guard = Guard(
            [cast("CallLimiter[Call]", self.limiter)],
            self.budget,
            transfer_seconds=60,
            idle_seconds=300,
            models_memory=lambda: self.models,
            held_memory=lambda: self.held,
        )
        self.trimmed = 0
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))

    def _resident_memory(self) -> int:
        self.asked += 1
        return self.memory

    def _trim(self) -> None:
        self.trimmed += 1

    def add(self, call: FakeCall) -> FakeCall:
        assert self.limiter.try_acquire(call)
        return call

    def look(self) -> None:
        self.guard.look()


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    with monkeypatch.context() as patch:
        yield Watched(patch)


async def test_memory_that_is_not_reserved_ends_the_calls_that_wait(watched: Watched) -> None:
    """The youngest end first, at most some at once; those that work, or have just begun to wait, go on."""
    old = [watched.add(FakeCall(reading=1000 + number, is_idle=False)) for number in range(EVICTED_AT_ONCE)]
    young = [watched.add(FakeCall(reading=9000 + number, is_idle=False)) for number in range(EVICTED_AT_ONCE)]
    working = watched.add(FakeCall())
    recent = watched.add(FakeCall(reading=watched.now - 0.01))
    watched.memory += 99 * MIB
    watched.look()
    assert not any(call.reasons for call in (*old, *young))
    watched.memory += 2 * MIB
    watched.look()
    reason = "the memory of the server is exhausted, and this call waited for its client"
    assert all(call.reasons[0] == reason for call in young)
    assert not any(call.reasons for call in (*old, working, recent))


async def test_reserved_memory_is_accounted_for(watched: Watched) -> None:
    """Memory that is reserved ends no call, and of that which is not the same may be used as without."""
    call = watched.add(FakeCall(reading=1))
    watched.budget.messages.reserve(80 * MIB)
    watched.budget.work.reserve(170 * MIB)
    watched.memory += 349 * MIB
    watched.guard._check_memory(watched.now)
    assert call.reasons == []
    watched.memory += 2 * MIB
    watched.guard._check_memory(watched.now)
    assert len(call.reasons) == 1


async def test_what_remains_without_calls_is_not_theirs(watched: Watched) -> None:
    """Models that were loaded later do not count for ever: what stays after a trim is the new base."""
    watched.memory += 300 * MIB
    watched.look()
    await eventually(lambda: watched.trimmed == 1)
    watched.now += 0.6
    watched.look()
    call = watched.add(FakeCall(reading=1))
    watched.now += 10
    watched.guard._check_memory(watched.now)
    assert call.reasons == []
    watched.memory += 101 * MIB
    watched.guard._check_memory(watched.now)
    assert len(call.reasons) == 1


async def test_what_connections_hold_is_no_new_base(watched: Watched) -> None:
    """Unfinished requests that the calls do not show count as long as they last, however slowly they become more."""
    call = watched.add(FakeCall())
    for _ in range(2):
        watched.memory += 45 * MIB
        watched.held += 45 * MIB
        for _ in range(4):
            watched.now += 0.6
            watched.look()
    assert watched.trimmed == 0
    watched.memory += 20 * MIB  # Of nobody.
    for _ in range(4):
        watched.now += 0.6
        watched.look()
    await eventually(lambda: watched.trimmed > 0)
    assert watched.guard._excess() == 90 * MIB
    call.holds_since = 1.0
    watched.memory += 11 * MIB
    watched.now += 0.6
    watched.look()
    assert call.reasons == ["the memory of the server is exhausted, and this call waited for its client"]


async def test_models_that_are_loaded_later_are_not_calls(watched: Watched) -> None:
    """A new version that needs much memory ends no call, although calls wait all the time."""
    call = watched.add(FakeCall(reading=1))
    watched.models = 300 * MIB
    watched.memory += 350 * MIB
    watched.look()  # Which notes the models.
    call.reasons.clear()
    watched.look()
    assert call.reasons == []
    watched.models = 0
    watched.now += 1
    watched.look()
    watched.look()
    assert call.reasons


async def test_the_connection_that_holds_most_loses_its_reply(watched: Watched) -> None:
    """Where memory is lacking, the reply that ends is not that of a slow client which holds little."""
    slow = watched.add(FakeCall(sending=watched.now - 10))
    greedy = [watched.add(FakeCall(sending=watched.now - 2)) for _ in range(3)]
    for call in greedy:
        call.connection, call.held = "b", 10 * MIB
    slow.held = 20 * MIB
    watched.budget.work.is_short = True
    watched.look()
    assert slow.reasons == []
    assert sum(len(call.reasons) for call in greedy) == 1


@pytest.mark.parametrize("pool", ["messages", "work"])
async def test_a_lack_of_memory_ends_unread_replies(watched: Watched, pool: str) -> None:
    """Only replies that wait for longer than a second, and only while another request lacks memory."""
    unread = watched.add(FakeCall(sending=watched.now - 2))
    on_its_way = watched.add(FakeCall(sending=watched.now - 0.5))
    idle = watched.add(FakeCall(reading=watched.now - 2))
    watched.look()
    assert unread.reasons == []
    getattr(watched.budget, pool).is_short = True
    watched.look()
    assert unread.reasons == ["others need the memory of this reply, which was not taken"]
    assert not getattr(watched.budget, pool).is_short
    watched.look()
    assert len(unread.reasons) == 1
    assert on_its_way.reasons == idle.reasons == []


@pytest.mark.parametrize(
    ("make", "seconds"),
    [
        (lambda since: FakeCall(reading=since, is_stream=False), 60),
        (lambda since: FakeCall(sending=since, is_stream=False), 60),
        (lambda since: FakeCall(reading=since), 300),
        (lambda since: FakeCall(reading=1, sending=since), 60),
    ],
    ids=["request", "reply", "stream", "reply of a stream"],
)
async def test_times(watched: Watched, make: Callable[[float], FakeCall], seconds: int) -> None:
    """Each kind of waiting has its limit, which the message states."""
    call = watched.add(make(watched.now))
    busy = watched.add(FakeCall(reading=1, is_idle=False))
    watched.now += seconds - 1
    watched.look()
    assert call.reasons == []
    watched.now += 2
    watched.look()
    assert call.reasons == [f"the call waited for its client for {seconds} s, which is the limit"]
    assert busy.reasons == []


async def test_the_memory_is_looked_at_more_often_the_less_is_left() -> None:
    """At 4 GiB/s, what is left is not used up meanwhile; without anything left as often as possible."""
    assert pause_before_next(128 * MIB) == 1 / 32
    assert pause_before_next(100 * 1024 * MIB) == SLOW_INTERVAL
    assert pause_before_next(MIB) == pause_before_next(0) == pause_before_next(-MIB) == INTERVAL


async def test_the_event_loop_is_woken_only_when_something_is_to_be_done(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is watched without it; it looks when memory is short, when a request lacks some, and now and then."""
    looks: list[int] = []
    look = watched.guard.look

    def noted() -> None:
        looks.append(watched.memory)
        look()

    monkeypatch.setattr(watched.guard, "look", noted)
    watched.look()  # Notes the time, which stands still then.
    looks.clear()
    task = asyncio.create_task(watched.guard.run())
    try:
        asked = watched.asked
        await eventually(lambda: watched.asked > asked + 3)
        assert looks == []
        call = watched.add(FakeCall(reading=1))
        watched.memory += 101 * MIB
        await eventually(lambda: bool(call.reasons))
        watched.memory -= 101 * MIB
        asked = watched.asked
        await eventually(lambda: watched.asked > asked + 3)
        looks.clear()
        unread = watched.add(FakeCall(sending=watched.now - 2))
        watched.budget.work.is_short = True
        await eventually(lambda: bool(unread.reasons))
        assert len(looks) == 1
        watched.now += 1
        await eventually(lambda: len(looks) == 2)
    finally:
        task.cancel()


async def test_connections_that_are_ended_for_their_memory_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The front is asked in the guard's thread, and what it ended is reported in that of the event loop."""
    asked: list[tuple[int, int, bool]] = []
    evicted: list[tuple[str, bool]] = []
    main = threading.current_thread()

    def watch_memory(excess: int, most: int) -> int:
        asked.append((excess, most, threading.current_thread() is main))
        return 2 if len(asked) == 1 else 0

    class Observer:
        def memory_reserved(self, kind: str, size: int) -> None:
            """Do nothing."""

        def call_evicted(self, reason: str) -> None:
            evicted.append((reason, threading.current_thread() is main))

    monkeypatch.setattr(module, "resident_memory", lambda: 1000 * MIB)
    budget = MemoryBudget(400 * MIB)
    budget.work.reserve(10 * MIB)
    guard = Guard([], budget, transfer_seconds=60, idle_seconds=300, watch_memory=watch_memory, observer=Observer())
    task = asyncio.create_task(guard.run())
    try:
        await eventually(lambda: len(evicted) == 2)
    finally:
        task.cancel()
    assert evicted == [("memory", True)] * 2
    assert asked[0] == (-module.BATCHES - 10 * MIB, 100 * MIB, False)


async def test_it_goes_on_after_an_error(caplog: pytest.LogCaptureFixture) -> None:
    """An error of metrics, or of anything else, does not leave the server unguarded."""
    reports = 0

    class Observer:
        def memory_reserved(self, kind: str, size: int) -> None:
            nonlocal reports
            reports += 1
            raise OSError("disk full")

        def call_evicted(self, reason: str) -> None:
            """Do nothing."""

    guard = Guard([], MemoryBudget(400 * MIB), transfer_seconds=60, idle_seconds=300, observer=Observer())
    task = asyncio.create_task(guard.run())
    await eventually(lambda: reports >= 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert errors
    assert {record.getMessage() for record in errors} == {"a check of the calls failed"}


@pytest.mark.parametrize("path", [UNARY, pytest.param(STREAM, marks=pytest.mark.exhaustive)])
async def test_unfinished_messages_do_not_fill_the_memory(path: str) -> None:
    """Many messages of which all but the end arrives: they are never held all at once, and others go on."""
    size = 8 * MIB
    count = 40
    # Those that hold too little in all end by their time.
    async with running(memory=64 * MIB, max_message_bytes=size, transfer_seconds=10, idle_seconds=10) as server:
        base = resident_memory()
        peak = 0

        unfinished = framed(bytes(size - 1), length=size)

        async def hold(client: Http2Client) -> None:
            stream = await client.call(path, end=False)
            await client.send(stream, unfinished, until_ended=True)
            await client.status(stream)

        async def measure() -> None:
            nonlocal peak
            while True:
                peak = max(peak, resident_memory() - base)
                await asyncio.sleep(0.005)

        measuring = asyncio.create_task(measure())
        async with Http2Client.connected(server.port) as client:
            await asyncio.gather(*[hold(client) for _ in range(count)])
            statuses = [status.get("grpc-status") for status in client.statuses.values()]
            assert statuses == ["8"] * count
            await good_call(server)
        measuring.cancel()
        await eventually(lambda: server.is_idle)
        assert peak < count * size


async def good_call(server: CallServer) -> None:
    async with Http2Client.connected(server.port) as client:
        stream = await client.call(UNARY, framed(b""))
        status: Any = await client.status(stream)
        assert status["grpc-status"] == "0"
