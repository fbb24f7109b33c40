"""Tests of `partedvae.serving.grpc.connections` with real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from partedvae.serving.grpc.connections import disconnect


@contextmanager
def connected(family: socket.AddressFamily, listen: str, connect: str) -> Iterator[tuple[socket.socket, int]]:
    """Yield the client's end of a connection to this process, and the client's port."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(family))
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        try:
            listener.bind((listen, 0))
        except OSError:
            pytest.skip(f"this machine has no address {listen}")
        listener.listen()
        client = stack.enter_context(socket.create_connection((connect, listener.getsockname()[1])))
        client.settimeout(60)
        accepted, _ = listener.accept()
        stack.enter_context(accepted)
        yield client, client.getsockname()[1]


@pytest.mark.parametrize(
    ("family", "listen", "connect", "peer"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1", "ipv4:127.0.0.1:{}"),
        (socket.AF_INET6, "::1", "::1", "ipv6:%5B::1%5D:{}"),
        (socket.AF_INET6, "::1", "::1", "ipv6:[::1]:{}"),
        (socket.AF_INET6, "::", "127.0.0.1", "ipv4:127.0.0.1:{}"),
        (socket.AF_INET6, "::", "127.0.0.1", "ipv6:%5B::ffff:127.0.0.1%5D:{}"),
    ],
    ids=["IPv4", "IPv6", "IPv6 without escapes", "IPv4 of a server on ::", "mapped IPv4"],
)
def test_the_connection_of_a_peer_is_shut_down(
    family: socket.AddressFamily, listen: str, connect: str, peer: str
) -> None:
    """The client of that address sees the end of its connection; another client of the same server does not."""
    with connected(family, listen, connect) as (client, port), connected(family, listen, connect) as (other, _):
        assert disconnect(peer.format(port))
        assert client.recv(1) == b""
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.recv(1)


@pytest.mark.parametrize(
    "peer",
    [
        "",
        "unix:",
        "unix:/tmp/socket",
        "ipv4:",
        "ipv4:127.0.0.1",
        "ipv4:127.0.0.1:port",
        "ipv4:localhost:80",
        "ipv6:%5B::1%5D",
        "ipv6:%5Bnonsense%5D:1",
        "unknown",
    ],
)
def test_peers_without_an_address(peer: str) -> None:
    """What is no address and port has no connection, and is no error."""
    assert not disconnect(peer)


def test_a_peer_that_has_gone() -> None:
    with connected(socket.AF_INET, "127.0.0.1", "127.0.0.1") as (client, port):
        pass
    assert not disconnect(f"ipv4:127.0.0.1:{port}")
    assert client.fileno() == -1


def test_addresses_are_compared_as_a_whole() -> None:
    """A client with the same port and another address is another one."""
    with connected(socket.AF_INET, "127.0.0.1", "127.0.0.1") as (client, port):
        assert not disconnect(f"ipv4:127.0.0.2:{port}")
        assert not disconnect(f"ipv4:127.0.0.1:{port ^ 1}")
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(1)
