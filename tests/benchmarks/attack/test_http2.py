"""Tests of the attackers' connections against a real server."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.attack.http2 import Connection, RawConnection, grpc_message
from benchmarks.attack.target import HEALTH, SERVICE
from partedvae.v1 import service_pb2 as pb
from tests.processes import ServerProcess

GENERATE = grpc_message(pb.GenerateRequest(count=100, seed=1).SerializeToString())


def test_a_message_has_the_prefix_of_grpc() -> None:
    assert grpc_message(b"abc") == b"\0\0\0\0\3abc"
    assert grpc_message(b"abc", flag=1, length=2**32 - 1) == b"\1\xff\xff\xff\xffabc"


async def test_requests_get_their_status(server: ServerProcess) -> None:
    async with Connection.open(server.address) as connection:
        generate = await connection.request(SERVICE + "Generate", GENERATE)
        unknown = await connection.request(SERVICE + "Nothing", b"")
        invalid = await connection.request(SERVICE + "Generate", grpc_message(b"\xff"))
        assert await connection.outcome(generate) == "OK"
        assert await connection.outcome(unknown) == "UNIMPLEMENTED"
        assert await connection.outcome(invalid) == "INVALID_ARGUMENT"
        assert connection.received_bytes > 100 * 8 * 6


async def test_without_a_window_no_reply_arrives(server: ServerProcess) -> None:
    """The server waits with its reply until the window is enlarged."""
    async with Connection.open(server.address, window=0, reads=False) as connection:
        stream = await connection.request(SERVICE + "Generate", GENERATE)
        async with Connection.open(server.address) as other:
            for _ in range(3):
                assert await other.outcome(await other.request(SERVICE + "Generate", GENERATE)) == "OK"
        assert connection.received_bytes == 0
        await connection.enlarge_window(stream, 1 << 20)
        assert await connection.outcome(stream) == "OK"
        assert connection.received_bytes > 100 * 8 * 6


async def test_sending_ends_with_the_call(server: ServerProcess) -> None:
    """A server that answers early does not leave the attacker waiting for a window."""
    async with Connection.open(server.address) as connection:
        stream = await connection.start(SERVICE + "Nothing")
        assert await connection.outcome(stream) == "UNIMPLEMENTED"
        assert not await connection.send(stream, bytes(1 << 20))


async def test_a_reset_ends_the_request_alone(server: ServerProcess) -> None:
    async with Connection.open(server.address) as connection:
        await connection.reset(await connection.request(SERVICE + "Generate", GENERATE))
        check = await connection.request(HEALTH + "Check", grpc_message(b""))
        assert await connection.outcome(check) == "OK"


async def test_a_closed_connection_is_noticed(server: ServerProcess) -> None:
    """The server closes a connection that does not speak HTTP/2."""
    async with RawConnection.open(server.address) as connection:
        await connection.send(b"GET / HTTP/1.1\r\n\r\n")
        while not connection.closed:
            await asyncio.sleep(0.01)
        with pytest.raises(ConnectionError, match="connection closed"):
            await connection.send(b"a")


async def test_nothing_to_connect_to() -> None:
    with pytest.raises(OSError, match="Connect call failed"):
        async with Connection.open("127.0.0.1:1"):
            pass
