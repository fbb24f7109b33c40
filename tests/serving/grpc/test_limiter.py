"""Tests of `partedvae.serving.grpc.limiter` with calls that do nothing."""

from __future__ import annotations

import asyncio
import time

import pytest

from partedvae.serving.errors import StoppingError, TooManyCallsError
from partedvae.serving.grpc.limiter import CallLimiter


class FakeCall:
    """A call that notes why it was ended."""

    def __init__(self, connection: str, *, waited: float | None = None, is_stream: bool = False) -> None:
        self.connection = connection
        self.is_stream = is_stream
        self.waits_since = 0.0 if waited is None else time.monotonic() - waited
        self.reason = ""

    def evict(self, reason: str) -> bool:
        self.reason = reason
        return True


def admit(
    limiter: CallLimiter[FakeCall], connection: str, count: int, *, waited: float | None = None
) -> list[FakeCall]:
    """Admit several calls of a connection."""
    calls = [FakeCall(connection, waited=waited) for _ in range(count)]
    for call in calls:
        assert limiter.try_acquire(call)
    return calls


async def test_places() -> None:
    """Calls are admitted up to the limit; each one that ends makes a place, once."""
    limiter: CallLimiter[FakeCall] = CallLimiter(3)
    calls = admit(limiter, "a", 3)
    refused = FakeCall("a")
    assert not limiter.try_acquire(refused)
    assert list(limiter) == [*calls, refused]  # Its status may not be taken.
    for _ in range(2):
        limiter.release_call(refused)
        assert (list(limiter), limiter.active_calls) == (calls, 3)
    for _ in range(2):
        limiter.release_call(calls[0])
        assert limiter.active_calls == 2
    assert limiter.try_acquire(refused)
    for call in (*calls, refused):
        limiter.release_call(call)
    assert (limiter.active_calls, list(limiter)) == (0, [])


async def test_limit_per_connection() -> None:
    """One connection has its own limit, although there are places."""
    limiter: CallLimiter[FakeCall] = CallLimiter(10, per_connection=2)
    calls = admit(limiter, "a", 2)
    assert not limiter.try_acquire(FakeCall("a"))
    admit(limiter, "b", 2)
    limiter.release_call(calls[0])
    assert limiter.try_acquire(FakeCall("a"))


async def test_the_longest_waiting_call_of_the_largest_connection_is_ended() -> None:
    limiter: CallLimiter[FakeCall] = CallLimiter(6)
    working = admit(limiter, "large", 2)
    recent = admit(limiter, "large", 1, waited=5)
    oldest = admit(limiter, "large", 1, waited=10)
    other = admit(limiter, "small", 2, waited=100)
    new = FakeCall("new")
    assert limiter.try_acquire(new)
    assert oldest[0].reason == "6 calls are active, and this one only waited for its client"
    assert [call.reason for call in (*working, *recent, *other)] == [""] * 5
    assert limiter.active_calls == 6
    limiter.release_call(oldest[0])  # Its end comes later, and changes nothing.
    assert limiter.active_calls == 6


async def test_calls_that_work_or_have_just_begun_to_wait_are_not_ended() -> None:
    limiter: CallLimiter[FakeCall] = CallLimiter(4)
    calls = [*admit(limiter, "a", 2), *admit(limiter, "a", 1, waited=0), *admit(limiter, "a", 1, waited=-5)]
    assert not limiter.try_acquire(FakeCall("b"))
    assert [call.reason for call in calls] == [""] * 4


async def test_a_connection_takes_no_place_of_one_with_as_many_calls() -> None:
    """Equal connections do not end each other's calls in turn."""
    limiter: CallLimiter[FakeCall] = CallLimiter(4)
    calls = [*admit(limiter, "a", 2, waited=10), *admit(limiter, "b", 2, waited=10)]
    assert not limiter.try_acquire(FakeCall("a"))
    assert not limiter.try_acquire(FakeCall("b"))
    assert [call.reason for call in calls] == [""] * 4


async def test_probes_take_the_place_of_older_ones() -> None:
    """Without patience, a call takes the place of one that has just begun to wait: each new connection finds one."""
    limiter: CallLimiter[FakeCall] = CallLimiter(4, patience_seconds=0.0)
    admit(limiter, "a", 4, waited=0)
    for number in range(20):
        assert limiter.try_acquire(FakeCall(f"probe {number}", waited=0))
    assert limiter.active_calls == 4


async def test_shares() -> None:
    """The last quarter of the places is for connections that have fewer calls than their share."""
    limiter: CallLimiter[FakeCall] = CallLimiter(8)
    admit(limiter, "large", 6)
    admit(limiter, "small", 1)
    assert not limiter.try_acquire(FakeCall("large"))
    admit(limiter, "small", 1)
    assert limiter.active_calls == 8


async def test_one_connection_alone_may_have_all_places() -> None:
    limiter: CallLimiter[FakeCall] = CallLimiter(8)
    admit(limiter, "only", 8)
    assert not limiter.try_acquire(FakeCall("only"))


async def test_a_refused_connection_gets_the_next_place() -> None:
    """After a connection was refused, one that already has its share is not admitted when a call ends."""
    limiter: CallLimiter[FakeCall] = CallLimiter(4)
    calls = admit(limiter, "greedy", 4)
    assert not limiter.try_acquire(FakeCall("refused"))
    limiter.release_call(calls[0])
    assert not limiter.try_acquire(FakeCall("greedy"))
    assert limiter.try_acquire(FakeCall("refused"))


async def test_a_stream_of_a_greedy_connection_is_replaced() -> None:
    """Streams that send now and then never wait for long; the oldest ends for a connection that has no call."""
    limiter: CallLimiter[FakeCall] = CallLimiter(4)
    streams = [FakeCall("greedy", is_stream=True) for _ in range(4)]
    assert all(limiter.try_acquire(stream) for stream in streams)
    assert limiter.try_acquire(FakeCall("other"))
    assert [stream.reason for stream in streams] == [
        "4 calls are active, and this connection has more than its share", "", "", ""
    ]  # fmt: skip
    assert not limiter.try_acquire(FakeCall("other")), "it has a call"


async def test_a_dismissed_call_has_no_place() -> None:
    """Its place is free for others, and it is still seen until it ends."""
    limiter: CallLimiter[FakeCall] = CallLimiter(1)
    (call,) = admit(limiter, "a", 1)
    limiter.dismiss(call)
    assert limiter.active_calls == 0
    (other,) = admit(limiter, "b", 1)
    assert set(limiter) == {call, other}
    limiter.release_call(call)
    assert set(limiter) == {other}
    assert limiter.active_calls == 1


@pytest.mark.parametrize(("limit", "active"), [(1, "1 call is active"), (2, "2 calls are active")])
async def test_reject(limit: int, active: str) -> None:
    """The error states the limit, and when to try again."""
    limiter: CallLimiter[FakeCall] = CallLimiter(limit)
    with pytest.raises(TooManyCallsError, match=f"^{active}, which is the limit: try again in 0.5 s$"):
        await limiter.reject("one")


async def test_stopping() -> None:
    """A stopping server admits nothing; its rejections are sent when no call is active any more."""
    limiter: CallLimiter[FakeCall] = CallLimiter(2)
    (call,) = admit(limiter, "a", 1)
    limiter.close()
    assert not limiter.try_acquire(FakeCall("b"))
    draining = asyncio.create_task(limiter.drain(60))
    rejections = [asyncio.create_task(limiter.reject("one")) for _ in range(3)]
    await asyncio.sleep(0.05)
    assert not draining.done()
    limiter.release_call(call)
    await draining
    await limiter.release_held()
    for rejection in rejections:
        with pytest.raises(StoppingError, match="the server is stopping; retry"):
            await rejection


async def test_drain_ends_without_the_calls() -> None:
    """Calls that do not end are waited for no longer than asked."""
    limiter: CallLimiter[FakeCall] = CallLimiter(2)
    admit(limiter, "a", 1)
    limiter.close()
    await asyncio.wait_for(limiter.drain(0.05), 60)
    assert limiter.active_calls == 1
