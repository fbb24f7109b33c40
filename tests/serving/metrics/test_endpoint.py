"""Tests of `partedvae.serving.metrics.endpoint` and `partedvae.serving.metrics.http_server`."""

from __future__ import annotations

import logging
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from prometheus_client import CollectorRegistry, Gauge, Metric
from prometheus_client.registry import Collector

from partedvae.serving.metrics import http_server
from partedvae.serving.metrics.endpoint import scrape_server
from tests.processes import PATIENCE, wait_until


class Endpoint:
    """An endpoint of which a test controls the probes."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.alive = self.ready = True
        self.address = ""

    def send(self, request: bytes) -> bytes:
        """Return the whole answer to a request."""
        with self.connect() as connection:
            connection.sendall(request)
            return read(connection)

    def connect(self) -> socket.socket:
        host, _, port = self.address.rpartition(":")
        return socket.create_connection((host, int(port)), timeout=PATIENCE)

    def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        """Return status and body."""
        answer = self.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()).decode()
        head, _, body = answer.partition("\r\n\r\n")
        return int(head.split()[1]), body


def read(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


@contextmanager
def running(endpoint: Endpoint, registry: Collector | None = None) -> Iterator[Endpoint]:
    served = scrape_server(
        "127.0.0.1:0",
        registry or endpoint.registry,
        is_alive=lambda: endpoint.alive,
        is_ready=lambda: endpoint.ready,
    )
    with served as endpoint.address:
        yield endpoint


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with running(Endpoint()) as endpoint:
        yield endpoint


def test_probes(endpoint: Endpoint) -> None:
    """Liveness and readiness are independent of each other, and 503 when they fail."""
    assert endpoint.get("/healthz") == (200, "ok\n")
    assert endpoint.get("/readyz") == (200, "ok\n")
    endpoint.ready = False
    assert endpoint.get("/healthz") == (200, "ok\n")
    assert endpoint.get("/readyz") == (503, "not serving\n")
    endpoint.alive = False
    assert endpoint.get("/healthz") == (503, "the event loop does not run\n")


def test_metrics(endpoint: Endpoint) -> None:
    """Metrics are in the text format, with or without a query; each scrape has the present values."""
    gauge = Gauge("height", "Metres.", registry=endpoint.registry)
    for value in (1, 2, 3):
        gauge.set(value)
        assert endpoint.get("/metrics") == (200, f"# HELP height Metres.\n# TYPE height gauge\nheight {value}.0\n")
    assert endpoint.get("/metrics?name[]=other")[1].endswith("height 3.0\n")
    assert b"\r\nContent-Type: text/plain; version=" in endpoint.send(b"GET /metrics HTTP/1.0\r\n\r\n")


def test_scrapes_at_the_same_time_share_the_work(endpoint: Endpoint) -> None:
    """Fifty callers at once all get the metrics, which are collected a few times."""
    collections: list[None] = []

    class Counting(Collector):
        def collect(self) -> list[Metric]:
            collections.append(None)
            return []

    endpoint.registry.register(Counting())  # Which collects it once, for the names.
    collections.clear()
    with ExitStack() as stack:
        connections = [stack.enter_context(endpoint.connect()) for _ in range(50)]
        for connection in connections:
            connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        answers = [read(connection) for connection in connections]
    assert all(answer.startswith(b"HTTP/1.1 200 OK\r\n") for answer in answers)
    assert 1 <= len(collections) < 25


def test_head_has_no_body(endpoint: Endpoint) -> None:
    answer = endpoint.send(b"HEAD /readyz HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nContent-Length: 3\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("path", ["/", "/metrics/", "/metricsx", "/healthz/../metrics", "*", "/%6detrics", "//metrics"])
def test_other_paths(endpoint: Endpoint, path: str) -> None:
    """Other paths are not found, and the answer lists those there are."""
    assert endpoint.get(path) == (404, "no such path; choose from /metrics, /healthz, /readyz\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get", ""])
def test_other_methods(endpoint: Endpoint, method: str) -> None:
    assert endpoint.get("/metrics", method) == (405, "use GET or HEAD\n")


def test_a_body_is_not_awaited(endpoint: Endpoint) -> None:
    """A request with a large body, which nobody reads, gets its answer."""
    body = b"x" * 1_000_000
    answer = endpoint.send(b"POST /metrics HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n" + body)
    assert answer.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")
    assert b"\r\nAllow: GET, HEAD\r\n" in answer


@pytest.mark.parametrize(
    "request_line",
    [b"", b"GET", b"GET /metrics", b"GET  /metrics HTTP/1.1", b"GET /metrics HTTP/2", b"\xff\xfe \x00 HTTP/1.1",
     b"GET http://[ HTTP/1.1", b"\x16\x03\x01\x02\x00\x01"],
)  # fmt: skip
def test_malformed_requests(endpoint: Endpoint, request_line: bytes) -> None:
    assert endpoint.send(request_line + b"\r\n\r\n").startswith(b"HTTP/1.1 400 Bad Request\r\n")


@pytest.mark.parametrize(
    "head", [b"GET /" + b"a" * 20_000, b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 5000, b"\n" * 20_000]
)
def test_large_heads(endpoint: Endpoint, head: bytes) -> None:
    """Long request lines, many headers and bytes without end are refused with the limit."""
    answer = endpoint.send(head + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert answer.endswith(b"request line and headers have more than 8192 bytes\n")


def test_slow_request(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that does not end, although bytes keep arriving, is answered with 408."""
    monkeypatch.setattr(http_server, "REQUEST_SECONDS", 0.3)
    stop = threading.Event()
    with endpoint.connect() as connection:

        def drip() -> None:
            while not stop.wait(0.05):
                connection.sendall(b"a")

        connection.sendall(b"GET /metrics HTTP/1.1\r\n")
        dripping = threading.Thread(target=drip)
        dripping.start()
        answer = connection.recv(65536)
        stop.set()
        dripping.join()
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert answer.endswith(b"no complete request within 0.3 s\n")


def test_reply_that_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection of a caller that does not read a large reply is closed after a while."""
    monkeypatch.setattr(http_server, "CONNECTION_SECONDS", 0.5)
    endpoint = Endpoint()
    gauge = Gauge("height", "Metres.", ["mountain"], registry=endpoint.registry)
    for i in range(200):
        gauge.labels(f"{i}" * 20_000).set(i)
    with running(endpoint), endpoint.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        wait_until(lambda: is_closed(connection))
        with pytest.raises(ConnectionResetError):
            read(connection)


def is_closed(connection: socket.socket) -> bool:
    """Report whether the server has closed a connection, also if there are bytes to read."""
    poll = select.poll()
    poll.register(connection, 0)
    return bool(poll.poll(0))


def test_many_slow_callers(endpoint: Endpoint) -> None:
    """With 400 connections that send nothing, others are served, by one thread; the oldest connections are closed."""
    threads = set(threading.enumerate())
    with ExitStack() as stack:
        opened: list[socket.socket] = []
        for _ in range(8):
            opened += [stack.enter_context(endpoint.connect()) for _ in range(50)]
            assert endpoint.get("/healthz") == (200, "ok\n")
        assert set(threading.enumerate()) <= threads  # Those of earlier tests may end.
        wait_until(lambda: sum(map(is_closed, opened)) >= 400 - http_server.MAX_CONNECTIONS)
        assert all(map(is_closed, opened[:200]))
        assert not any(map(is_closed, opened[-50:]))


def test_end_with_open_connections(caplog: pytest.LogCaptureFixture) -> None:
    """The end closes connections whose requests are not complete, and logs nothing about them."""
    with ExitStack() as stack:
        with running(Endpoint()) as endpoint:
            silent, unfinished = (stack.enter_context(endpoint.connect()) for _ in range(2))
            unfinished.sendall(b"GET /metr")
            assert endpoint.get("/healthz") == (200, "ok\n")
        assert (read(silent), read(unfinished)) == (b"", b"")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_collector_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """An error is a 500 without its text, which the log has; probes and later scrapes are served."""
    endpoint = Endpoint()

    class Failing(Collector):
        fails = True

        def collect(self) -> list[Metric]:
            if self.fails:
                raise ZeroDivisionError("the secret reason")
            return []

    registry = Failing()
    with running(endpoint, registry), caplog.at_level(logging.ERROR):
        assert endpoint.get("/metrics") == (500, "failed; the server's log has the reason\n")
        assert endpoint.get("/healthz") == (200, "ok\n")
        registry.fails = False
        assert endpoint.get("/metrics") == (200, "")
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == ["/metrics failed"]
    assert "the secret reason" in caplog.text


@pytest.mark.parametrize(("address", "warned"), [("127.0.0.1:0", False), ("0.0.0.0:0", True)])
def test_warning_of_other_machines(address: str, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Listening on more than the loopback interface is a warning, which says what to do."""
    with caplog.at_level(logging.WARNING), scrape_server(address, CollectorRegistry()) as at:
        assert ("can read the metrics, which have no token" in caplog.text) == warned
        assert (f"everyone who can connect to {at}" in caplog.text) == warned
