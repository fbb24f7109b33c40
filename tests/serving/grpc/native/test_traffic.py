"""Tests of `partedvae.serving.grpc.native.traffic` with real connections, whose bytes the system counts."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from partedvae.serving.grpc.connections import connections, transferred
from partedvae.serving.grpc.native import traffic as module
from partedvae.serving.grpc.native.traffic import ENDED_AT_ONCE, NativeTraffic
from partedvae.serving.memory_budget import MIB
from tests.serving.gated_batches import eventually
from tests.serving.grpc.http2_client import Http2Client, framed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts the bytes of a connection")

MOST = 16 * MIB


class Clients:
    """Connections to a port of this process, which reads all that they send."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        self.port = self._listener.getsockname()[1]
        self.streamed = 0
        self.traffic = NativeTraffic(self.port, lambda: self.streamed)

    def connect(self) -> Connected:
        client = self._stack.enter_context(socket.create_connection(("127.0.0.1", self.port)))
        client.settimeout(60)
        accepted, _ = self._listener.accept()
        return Connected(client, self._stack.enter_context(accepted))

    def noted(self, client: Connected) -> Any:
        """Return the counts of the client's calls."""
        return self.traffic.client(client.peer)


class Connected:
    """Both ends of a connection."""

    def __init__(self, client: socket.socket, accepted: socket.socket) -> None:
        self.client = client
        self.accepted = accepted
        self.peer = f"ipv4:127.0.0.1:{client.getsockname()[1]}"

    def send(self, size: int) -> None:
        """Send bytes to the server, which reads them all."""
        _pass_on(self.client, self.accepted, size)

    def reply(self, size: int) -> None:
        """Send bytes to the client, which reads them all."""
        _pass_on(self.accepted, self.client, size)

    @property
    def is_closed(self) -> bool:
        """Whether the server has closed the connection."""
        self.client.setblocking(False)
        try:
            return self.client.recv(1) == b""
        except BlockingIOError:
            return False
        finally:
            self.client.settimeout(60)


def _pass_on(sender: socket.socket, receiver: socket.socket, size: int) -> None:
    writing = threading.Thread(target=sender.sendall, args=(bytes(size),))
    writing.start()
    left = size
    while left:
        left -= len(receiver.recv(left))
    writing.join()


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clients]:
    for name in ("SETTLE_SECONDS", "WATCH_SECONDS", "QUIET_SECONDS", "COST_RATIO"):
        monkeypatch.setattr(module, name, -1.0)  # Every look counts.
    with ExitStack() as stack:
        yield Clients(stack)


def test_what_a_connection_has_carried(clients: Clients) -> None:
    """The system counts what arrived, and what the client has acknowledged, of each connection."""
    client = clients.connect()
    client.send(100_000)
    client.reply(30_000)
    counts = {
        endpoint[1]: transferred(connection)
        for connection, endpoint in connections()
        if connection.getsockname()[1] == clients.port
    }
    assert counts == {client.client.getsockname()[1]: (100_000, 30_000)}


def test_the_connection_that_holds_most_is_closed(clients: Clients, caplog: pytest.LogCaptureFixture) -> None:
    """Of what arrived, what has become calls is not held; the next one is closed if the first does not hold enough."""
    greedy, second, busy, slow = (clients.connect() for _ in range(4))
    greedy.send(20 * MIB)
    second.send(10 * MIB)
    busy.send(50 * MIB)
    clients.noted(busy).calls, clients.noted(busy).received = 10, 50 * MIB
    slow.send(MIB)
    assert clients.traffic.watch_memory(MOST - 1, MOST) == 0
    assert clients.traffic.watch_memory(MOST, MOST) == 1
    assert [client.is_closed for client in (greedy, second, busy, slow)] == [True, False, False, False]
    assert "closing 1 connections: their unfinished requests and untaken replies hold 19 MiB" in caplog.text
    greedy.accepted.close()
    assert clients.traffic.watch_memory(MOST, MOST) == 1
    assert [client.is_closed for client in (second, busy, slow)] == [True, False, False]


def test_replies_that_are_not_taken(clients: Clients) -> None:
    """A client that takes its replies holds none of them; one that does not is closed."""
    unread, reading = clients.connect(), clients.connect()
    for client, taken in ((unread, MIB), (reading, 9 * MIB)):
        client.reply(taken)
        clients.noted(client).calls, clients.noted(client).sent = 9, 9 * MIB
    assert clients.traffic.watch_memory(20 * MIB, MOST) == 1
    assert (unread.is_closed, reading.is_closed) == (True, False)


def test_headers_are_not_held(clients: Clients) -> None:
    """Ten thousand small calls on a connection, with 300 bytes of headers each, hold nothing."""
    client = clients.connect()
    client.send(10_000 * 400)
    counts = clients.noted(client)
    counts.calls, counts.received = 10_000, 10_000 * 100
    assert clients.traffic.watch_memory(20 * MIB, MOST) == 0
    assert not client.is_closed


def test_what_was_received_while_there_was_memory_is_not_held(clients: Clients) -> None:
    """A stream of long ago does not count; nor do calls with few headers hide what comes later."""
    client, other = clients.connect(), clients.connect()
    client.send(30 * MIB)
    counts = clients.noted(other)
    other.send(MIB)
    counts.calls, counts.received = 100_000, MIB
    assert clients.traffic.watch_memory(-1, MOST) == 0
    other.send(10 * MIB)
    assert clients.traffic.watch_memory(MOST, MOST) == 1
    assert (client.is_closed, other.is_closed) == (False, True)


def test_streams_are_credited(clients: Clients) -> None:
    """What streams have received was passed on to the server behind the front: it is not held here."""
    stream, unfinished = clients.connect(), clients.connect()
    for _ in range(5):
        stream.send(8 * MIB)
        clients.streamed += 8 * MIB
        assert clients.traffic.watch_memory(1, MOST) == 0
    unfinished.send(16 * MIB)
    assert clients.traffic.watch_memory(20 * MIB, MOST) == 1
    assert (stream.is_closed, unfinished.is_closed) == (False, True)


def test_requests_that_were_small_on_the_wire(clients: Clients) -> None:
    """The sender of compressed requests that became large is closed, if nobody holds more."""
    bomber, good = clients.connect(), clients.connect()
    good.send(8 * MIB)
    bomber.send(100_000)
    for client, size in ((bomber, 100 * MIB), (good, 8 * MIB)):
        clients.noted(client).calls, clients.noted(client).received = 1, size
    assert clients.traffic.watch_memory(100 * MIB, MOST) == 1
    assert (bomber.is_closed, good.is_closed) == (True, False)


def test_many_small_holders(clients: Clients) -> None:
    """Some are closed at once, and those that hold as little as good clients are not closed at all."""
    holders = [clients.connect() for _ in range(ENDED_AT_ONCE + 4)]
    small = clients.connect()
    small.send(60_000)
    for client in holders:
        client.send(200_000)
    assert clients.traffic.watch_memory(20 * MIB, MOST) == ENDED_AT_ONCE
    for client in holders:
        if client.is_closed:
            client.accepted.close()
    assert clients.traffic.watch_memory(20 * MIB, MOST) == 4
    assert not small.is_closed


def test_clients_that_have_gone_are_forgotten(clients: Clients) -> None:
    """A client whose port belonged to another before does not inherit its counts."""
    gone = clients.connect()
    before = clients.noted(gone)
    before.received = 50 * MIB
    gone.client.close()
    gone.accepted.close()
    assert clients.traffic.watch_memory(1, MOST) == 0
    assert clients.noted(gone) is not before
    assert clients.noted(gone).received == 0


def test_memory_of_connections_that_were_closed_is_awaited(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    """While what a closed connection held is returned, no other is closed for it."""
    monkeypatch.setattr(module, "SETTLE_SECONDS", 3600.0)
    greedy, second = clients.connect(), clients.connect()
    greedy.send(30 * MIB)
    second.send(8 * MIB)
    assert clients.traffic.watch_memory(30 * MIB, MOST) == 1
    assert clients.traffic.watch_memory(30 * MIB, MOST) == 0
    assert (greedy.is_closed, second.is_closed) == (True, False)


@pytest.mark.asyncio
async def test_the_package_returns_what_a_closed_connection_held() -> None:
    """Unfinished requests and untaken replies of pygrpc-native go with their connection; another client goes on."""
    native = pytest.importorskip("pygrpc_native")
    method = "/partedvae.v1.PartedVAEService/Classify"
    front = native.NativeGrpcFront("127.0.0.1:0", [(method, False)], max_concurrent_streams=100)
    traffic = NativeTraffic(front.bound_port, lambda: 0)

    def serve() -> None:
        while (events := front.recv_batch(64)) is not None:
            for kind, number, _, message, peer in events:
                if kind == native.EVENT_CALL:
                    client = traffic.client(peer)
                    client.calls += 1
                    client.received += len(message)
                    reply = b"" if message else bytes(4 * MIB)
                    client.sent += len(reply)
                    front.respond(number, reply)

    front.start()
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        async with (
            Http2Client.connected(front.bound_port) as unfinished,
            Http2Client.connected(front.bound_port, window=0) as unread,
            Http2Client.connected(front.bound_port) as good,
        ):
            first = await good.call(method, framed(bytes(8 * MIB)))
            for _ in range(8):
                await unread.call(method, framed(b""))
            for _ in range(8):
                stream = await unfinished.call(method, end=False)
                await unfinished.send(stream, framed(bytes(MIB - 1), length=MIB))
            assert (await good.status(first))["grpc-status"] == "0"
            await eventually(lambda: traffic.client(unread.peer).calls == 8)
            assert traffic.watch_memory(MOST, MOST) == 1
            await unread.until(lambda: unread.is_closed)
            assert not unfinished.is_closed
            await asyncio.sleep(module.SETTLE_SECONDS)
            assert traffic.watch_memory(MOST, MOST) == 1
            await unfinished.until(lambda: unfinished.is_closed)
            again = await good.call(method, framed(b"x"))
            assert (await good.status(again))["grpc-status"] == "0"
    finally:
        front.close()
        thread.join()
