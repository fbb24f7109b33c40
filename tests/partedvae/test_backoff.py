"""The time after which a refused call is made again."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from partedvae.backoff import ATTEMPTS, FIRST_DELAY, MAX_DELAY, MAX_SPREAD, OUTAGE, Backoff
from partedvae.errors import InvalidRequestError, OverloadedError, UnavailableError


def refusal(after: float | None, *, retryable: bool = True) -> OverloadedError:
    error = OverloadedError("full")
    error.retry_after, error.retryable = after, retryable
    return error


def delays(uniform: Callable[[float, float], float], after: float, count: int, timeout: float) -> list[float]:
    backoff = Backoff(timeout, clock=lambda: 0.0, uniform=uniform)
    found = [backoff.delay(refusal(after)) for _ in range(count)]
    assert None not in found
    return [delay for delay in found if delay is not None]


def test_the_random_time_grows_with_each_refusal() -> None:
    """Never less than the server's time; at most as much more, and then twice as much each time."""
    assert delays(min, 1.5, 4, 1000) == [1.5] * 4
    assert delays(max, 1.5, 6, 1000) == [1.5 + spread for spread in (1.5, 3, 6, 12, 24, MAX_SPREAD)]
    assert delays(max, 0.0, 3, 1000) == [FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY]
    assert delays(max, 0.0, 2000, 1000)[-1] == MAX_SPREAD


def test_random_times_of_many_clients_differ() -> None:
    random.seed(0)
    first = [delays(random.uniform, 1.0, 1, 60)[0] for _ in range(1000)]
    assert 1 <= min(first) < 1.05
    assert 1.95 < max(first) <= 2
    # In no tenth of the time come more than twice as many as on average.
    assert max(sum(1 + i / 10 <= delay < 1.1 + i / 10 for delay in first) for i in range(10)) < 200


def test_something_is_left_for_the_attempt() -> None:
    assert delays(max, 6.0, 1, 10) == [8.0]


def test_attempts_do_not_crowd_at_the_end() -> None:
    """Also where the server names no time at all, and random times are short."""
    now = 0.0
    backoff = Backoff(1, clock=lambda: now, uniform=lambda least, most: (least + most) / 2)
    attempts = 0
    while (delay := backoff.delay(refusal(0.0))) is not None:
        now += delay
        attempts += 1
    assert 2 < attempts < 15


@pytest.mark.parametrize(("timeout", "longest"), [(10.0, 10.0), (None, OUTAGE)])
def test_a_time_as_long_as_the_timeout_is_not_waited_for(timeout: float | None, longest: float) -> None:
    error = refusal(longest)
    assert Backoff(timeout, clock=lambda: 0.0).delay(error) is None
    assert str(error) == f"full (the server asks to wait for {longest:g} s; raise timeout= to allow it)"


def test_attempts_without_a_time() -> None:
    backoff = Backoff(60, clock=lambda: 0.0, uniform=max)
    assert [backoff.delay(refusal(None)) for _ in range(ATTEMPTS - 1)] == [0.2, 0.4, 0.8]
    error = refusal(None)
    assert backoff.delay(error) is None
    assert str(error) == "full", "too short to be of interest"


def test_attempts_during_an_outage() -> None:
    """As many as fit into the timeout; then the error says how long was waited."""
    now = 0.0
    backoff = Backoff(60, attempts=None, clock=lambda: now, uniform=max)
    assert [backoff.delay(UnavailableError("away")) for _ in range(2000)][-1] == MAX_DELAY
    now = 60.0
    error = UnavailableError("away")
    assert backoff.delay(error) is None
    assert str(error).startswith("away (refused 2001 times, ")


def test_the_timeout_is_that_of_all_attempts() -> None:
    now = 0.0
    backoff = Backoff(10, attempts=None, clock=lambda: now)
    assert backoff.remaining == 10
    now = 7.5
    assert backoff.remaining == 2.5
    now = 10.0
    assert backoff.delay(UnavailableError("away")) is None
    assert Backoff(None).remaining is None


@pytest.mark.parametrize("error", [refusal(1, retryable=False), InvalidRequestError("full")])
def test_errors_that_would_repeat_themselves(error: OverloadedError) -> None:
    assert Backoff(60).delay(error) is None
    assert str(error) == "full"
