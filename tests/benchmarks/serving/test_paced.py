"""Tests of the load generator for a constant rate: against the real server, and against servers that misbehave."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded
from h2.settings import SettingCodes, Settings

from benchmarks.serving import paced
from benchmarks.serving.http2 import MAX_FRAME, RequestConnection
from benchmarks.serving.load import BenchmarkError, Target
from benchmarks.serving.paced import PacedMeasurement, describe_generator, latency_cell
from benchmarks.serving.requests import features_target
from tests.bundles import GREY
from tests.processes import ServerProcess

MESSAGE = b"x" * 40
REPLY = b"reply"

Respond = Callable[[H2Connection, int, bytes], None]
"""Answers a request: the connection, the number of the stream, the body."""


def measurement(**changes: float | None) -> PacedMeasurement:
    values: dict[str, float | None] = {
        "rate": 1000.0,
        "achieved": 999.0,
        "p50_ms": 1.234,
        "p90_ms": 2.0,
        "p99_ms": 3.456,
        "generator_cpus": 0.1,
        "generator_late_ms": 0.2,
    }
    return PacedMeasurement(**values | changes)  # type: ignore[arg-type]


def reply(connection: H2Connection, stream: int, body: bytes) -> None:
    """Answer as a server over HTTP does."""
    connection.send_headers(stream, [(":status", "200")])
    connection.send_data(stream, REPLY, end_stream=True)


def target(address: str, message: bytes = MESSAGE) -> Target:
    return Target(address=address, path="/infer", message=message, response_bytes=len(REPLY), images=1, grpc=False)


@contextmanager
def http2_server(respond: Respond, streams: int = 100, window: int = 65_535) -> Iterator[str]:
    """Run a server by the library h2, which checks every frame, and return its address."""

    def serve(connection: socket.socket) -> None:
        protocol = H2Connection(H2Configuration(client_side=False))
        protocol.local_settings = Settings(
            client=False,
            initial_values={SettingCodes.MAX_CONCURRENT_STREAMS: streams, SettingCodes.INITIAL_WINDOW_SIZE: window},
        )
        protocol.initiate_connection()
        bodies: dict[int, bytes] = {}
        with suppress(OSError), connection:
            connection.sendall(protocol.data_to_send())
            while data := connection.recv(1 << 16):
                for event in protocol.receive_data(data):
                    if isinstance(event, RequestReceived):
                        bodies[event.stream_id] = b""
                    elif isinstance(event, DataReceived):
                        bodies[event.stream_id] += event.data
                        protocol.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    elif isinstance(event, StreamEnded):
                        respond(protocol, event.stream_id, bodies.pop(event.stream_id))
                connection.sendall(protocol.data_to_send())

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.slow
def test_a_rate_that_is_kept(server: ServerProcess) -> None:
    """All requests to the real server are answered, and their latencies are ordered."""
    result = paced.run(features_target(server.address, "tiny", GREY.manifest(), 2), rate=40.0, seconds=1.0)
    assert result.achieved == pytest.approx(40.0, rel=0.1)
    assert result.p50_ms is not None
    assert result.p90_ms is not None
    assert result.p99_ms is not None
    assert 0 < result.p50_ms <= result.p90_ms <= result.p99_ms
    assert result.generator_cpus > 0


@pytest.mark.slow
def test_a_rate_that_is_not_kept() -> None:
    """A server that answers ten requests per second gets no latency, which would grow with the measurement."""
    lock = threading.Lock()

    def respond(connection: H2Connection, stream: int, body: bytes) -> None:
        with lock:
            time.sleep(0.1)
        reply(connection, stream, body)

    with http2_server(respond) as address:
        result = paced.run(target(address), rate=2000.0, seconds=1.0)
    assert not result.is_kept
    assert (result.p50_ms, result.p90_ms, result.p99_ms) == (None, None, None)
    assert result.achieved < 200


@pytest.mark.slow
def test_latencies_count_from_the_due_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one request at a time, those that wait for their turn are late, although each is answered quickly."""
    monkeypatch.setattr(paced, "CONNECTIONS", 1)
    stalled = threading.Event()

    def respond(connection: H2Connection, stream: int, body: bytes) -> None:
        if stream > 60 and not stalled.is_set():
            stalled.set()
            time.sleep(0.5)
        reply(connection, stream, body)

    with http2_server(respond, streams=1) as address:
        result = paced.run(target(address), rate=100.0, seconds=1.5)
    assert stalled.is_set()
    # A third of the requests were due during that half second, and only one of them was held by the server itself.
    assert result.p90_ms is not None
    assert result.p90_ms > 100


@pytest.mark.slow
def test_every_request_has_a_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that waited for a stream, or for the response, when the time was over."""
    monkeypatch.setattr(paced, "MIN_ACHIEVED", 0.0)
    counts: list[int] = []
    summary = paced._summary

    def counted(
        rate: float, achieved: float, latencies: Sequence[float], cpus: float, late: Sequence[float]
    ) -> PacedMeasurement:
        counts.append(len(latencies))
        return summary(rate, achieved, latencies, cpus, late)

    def respond(connection: H2Connection, stream: int, body: bytes) -> None:
        time.sleep(0.03)
        reply(connection, stream, body)

    monkeypatch.setattr(paced, "_summary", counted)
    monkeypatch.setattr(paced, "CONNECTIONS", 1)
    with http2_server(respond, streams=1) as address:
        paced.run(target(address), rate=50.0, seconds=1.0)
    # Of 60 requests, ten belong to the warm-up; rounding may move one.
    assert counts[0] == pytest.approx(50, abs=1)


@pytest.mark.slow
def test_bodies_arrive_whole() -> None:
    """Bodies larger than a frame are split, and the first and all later requests are the same."""
    message = bytes(range(256)) * 100
    assert len(message) > MAX_FRAME
    bodies: list[bytes] = []

    def respond(connection: H2Connection, stream: int, body: bytes) -> None:
        bodies.append(body)
        reply(connection, stream, body)

    with http2_server(respond) as address:
        result = paced.run(target(address, message), rate=50.0, seconds=0.5)
    assert result.is_kept
    assert len(bodies) >= 30
    assert set(bodies) == {message}


@pytest.mark.parametrize(
    ("respond", "reason"),
    [
        (
            lambda connection, stream, body: connection.send_headers(stream, [(":status", "500")], end_stream=True),
            "the response has 0 bytes, expected 5",
        ),
        (lambda connection, stream, body: connection.reset_stream(stream, 7), "the server reset the stream: error 7"),
        (lambda connection, stream, body: connection.close_connection(2), "the server ends the connection: error 2"),
    ],
)
def test_a_failed_request_fails_the_measurement(respond: Respond, reason: str) -> None:
    """The error names the server, the path and the reason."""
    with (
        http2_server(respond) as address,
        pytest.raises(BenchmarkError, match=rf"^a request to {address}/infer failed: {reason}$"),
    ):
        paced.run(target(address), rate=50.0, seconds=0.5)


def test_a_request_without_a_response(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the number of requests, and does not wait for ever."""
    monkeypatch.setattr(paced, "MIN_ACHIEVED", 0.0)
    monkeypatch.setattr(paced, "DRAIN_SECONDS", 0.2)
    with (
        http2_server(lambda *_: None) as address,
        pytest.raises(BenchmarkError, match=r"^30 requests got no response within 0\.2 s$"),
    ):
        paced.run(target(address), rate=50.0, seconds=0.5)


def test_a_refused_connection(unused_tcp_port: int) -> None:
    """The error names the server."""
    address = f"127.0.0.1:{unused_tcp_port}"
    with pytest.raises(BenchmarkError, match=rf"a request to {address}/infer failed: .*refused"):
        paced.run(target(address), rate=50.0, seconds=0.5)


def test_a_request_that_is_too_large() -> None:
    """A body above the server's window is refused before anything is sent."""
    with (
        http2_server(reply, window=30) as address,
        pytest.raises(BenchmarkError, match=r"the request has 40 bytes, but .* accepts only 30 before .* send fewer"),
    ):
        paced.run(target(address), rate=50.0, seconds=0.5)


def test_the_server_limits_streams() -> None:
    """Never more requests are concurrent than the server's settings allow, and fewer if the caller asks for fewer."""
    with http2_server(lambda *_: None, streams=3) as address:
        for allowed, expected in ((16, 3), (2, 2)):
            with RequestConnection.open(target(address), allowed) as connection:
                while connection.is_free:
                    connection.send(0.0)
                assert connection.active == expected


def test_cells_of_a_table() -> None:
    """A cell has the latencies, or the rate that was reached."""
    assert latency_cell(measurement()) == "1.2 / 3.5"
    assert latency_cell(measurement(achieved=432.1, p50_ms=None, p99_ms=None)) == "not kept: 432/s"


def test_the_cost_of_the_generator() -> None:
    """The sentence has the highest values of all measurements."""
    text = describe_generator(
        [measurement(generator_cpus=0.42, achieved=9987.0), measurement(rate=5000.0, generator_late_ms=7.89)]
    )
    assert "at most 42% of a processor (at 9,987 responses/s)" in text
    assert "within 7.9 ms of that time in the worst case (at 5,000/s)" in text
