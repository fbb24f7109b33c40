"""Floods of similar records are cut, counted and reported; others pass."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from partedvae.serving.logs.formatters import TextFormatter
from partedvae.serving.logs.handler import SUMMARY_SECONDS, LimitedHandler
from partedvae.serving.logs.rate_limit import MAX_KINDS, OF_LIBRARIES, PER_KIND


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def handler(stream: io.StringIO, clock: Clock) -> Iterator[LimitedHandler]:
    made = LimitedHandler(stream, TextFormatter(None), clock)
    yield made
    made.close()


def log(handler: logging.Handler, message: str, *args: object, name: str = "grpc.core", level: int = 40) -> None:
    handler.handle(logging.LogRecord(name, level, "", 0, message, args, None))


def lines(stream: io.StringIO) -> list[str]:
    """Return the messages that were written since the last call."""
    text = stream.getvalue()
    stream.seek(0)
    stream.truncate()
    return [line.partition(": ")[2] for line in text.splitlines()]


def test_a_flood_is_cut_and_counted(handler: LimitedHandler, stream: io.StringIO, clock: Clock) -> None:
    for number in range(1000):
        log(handler, f"handshake 0x{number:x} with 'host-{number}' failed, code {number}")
    assert len(lines(stream)) == PER_KIND.burst
    clock.now = 1 / PER_KIND.per_second
    log(handler, "handshake 0x1 with 'host' failed, code 7")
    log(handler, "handshake 0x1 with 'host' failed, code 7")
    assert lines(stream) == ["handshake 0x1 with 'host' failed, code 7 (980 similar messages were suppressed)"]
    log(handler, "another")
    assert lines(stream) == ["another"]


def test_what_no_later_record_counts_is_summarised(handler: LimitedHandler, stream: io.StringIO, clock: Clock) -> None:
    for _ in range(1000):
        log(handler, "handshake")
    lines(stream)
    clock.now = SUMMARY_SECONDS
    log(handler, "another", name="partedvae.x", level=20)
    assert lines(stream) == ["980 messages like earlier ones were suppressed", "another"]
    for _ in range(100):
        log(handler, "handshake")
    lines(stream)
    handler.close()
    (last,) = lines(stream)
    assert last == f"{100 - 6} messages like earlier ones were suppressed"


def test_texts_that_vary_are_limited_together(handler: LimitedHandler, stream: io.StringIO, clock: Clock) -> None:
    """A client that makes each message another kind writes no more, and none is lost from the count."""
    for number in range(5000):
        log(handler, "".join(chr(97 + int(digit)) for digit in str(number)), name="stderr")
    assert len(lines(stream)) == OF_LIBRARIES.burst > MAX_KINDS
    handler.close()
    assert lines(stream) == [f"{5000 - OF_LIBRARIES.burst:,} messages like earlier ones were suppressed"]


def test_the_servers_own_records_are_complete(handler: LimitedHandler, stream: io.StringIO) -> None:
    """Calls at the level debug, and messages that differ, such as one per version, are not limited."""
    for _ in range(1000):
        log(handler, "call", name="partedvae.serving", level=10)
    for number in range(1000):
        log(handler, "version %d is broken", number, name="partedvae.serving")
    assert len(lines(stream)) == 2000
    for _ in range(1000):
        log(handler, "the same", name="partedvae.serving")
    assert len(lines(stream)) == PER_KIND.burst
