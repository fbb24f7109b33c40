"""Connections of both clients: one per client or several, several servers behind one name, servers that go away."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grpc_health.v1.health import HealthServicer
from grpc_health.v1.health_pb2 import HealthCheckResponse

from partedvae import AsyncClient, Client, InvalidRequestError, PartedVAEError, UnavailableError
from partedvae.connection import ConnectionSettings
from partedvae.results import ImageArray
from partedvae.transport import Transport
from tests.bundles import GREY
from tests.partedvae.conftest import Call
from tests.partedvae.fake_server import FakeServer, fake_server
from tests.processes import running_server


def ipv4(*servers: FakeServer) -> str:
    """Return a name that resolves to several servers."""
    return "ipv4:" + ",".join(server.address for server in servers)


def repeat(call: Call, address: str, times: int, **settings: Any) -> None:
    """Call a server repeatedly with one client."""
    if call.__name__ == "synchronous":
        with Client(address, **settings) as client:
            for _ in range(times):
                client.models()
        return

    async def several() -> None:
        async with AsyncClient(address, **settings) as client:
            for _ in range(times):
                await client.models()

    asyncio.run(several())


def test_a_timeout_of_numpy_is_a_python_float() -> None:
    """It is added to the time of day, of which float32 has only every 128th second."""
    given: Any = np.float32(60)
    timeout = Transport(ConnectionSettings(address="127.0.0.1:1", timeout=given)).timeout
    assert type(timeout) is float
    assert timeout == 60.0


def test_every_client_has_its_own_connection() -> None:
    with fake_server() as server, ExitStack() as stack:
        for client in [stack.enter_context(Client(server.address)) for _ in range(5)]:
            client.models()
            client.models()
        assert (server.calls, len(server.peers)) == (10, 5)


@pytest.mark.parametrize("connections", [1, 3])
def test_calls_take_turns_among_connections(call: Call, connections: int) -> None:
    with fake_server() as server:
        repeat(call, server.address, 7, connections=connections)
        assert (server.calls, len(server.peers)) == (7, connections)


def test_a_number_of_connections_that_is_out_of_range() -> None:
    with pytest.raises(InvalidRequestError, match="connections is 0; it must be at least 1"):
        Client("here:1", connections=0)


def test_calls_take_turns_among_servers_of_a_name(call: Call) -> None:
    with fake_server() as first, fake_server() as second:
        repeat(call, ipv4(first, second), 40)
        assert first.calls + second.calls == 40
        assert min(first.calls, second.calls) >= 10


def test_a_server_that_goes_away_and_comes_back() -> None:
    """No call fails while the other server is there, and calls go to the first again once it is back."""
    with fake_server() as other, ExitStack() as stack:
        first = stack.enter_context(fake_server())
        client = stack.enter_context(Client(ipv4(first, other)))
        while not (first.calls and other.calls):
            client.models()
        with ExitStack() as again:
            address, before = first.address, other.calls
            first.server.stop(None).wait()
            for _ in range(20):
                client.models()
            assert other.calls - before == 20
            back = again.enter_context(fake_server(address=address))
            while not back.calls:
                client.models()


def test_a_server_that_is_not_healthy_gets_no_calls(call: Call) -> None:
    with ThreadPoolExecutor(2) as pool:
        health = HealthServicer(experimental_non_blocking=True, experimental_thread_pool=pool)
        health.set("", HealthCheckResponse.NOT_SERVING)
        with fake_server(health=health) as stopping, fake_server() as other:
            repeat(call, ipv4(stopping, other), 20)
            assert (stopping.calls, other.calls) == (0, 20)
            with pytest.raises(UnavailableError, match=f"the server at {stopping.address} is not ready"):
                call(stopping.address, "models")


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize(
    ("asynchronous", "sent"),
    [
        pytest.param(False, 0, id="sync-0"),
        pytest.param(False, 3, id="sync-3", marks=pytest.mark.exhaustive),
        pytest.param(True, 0, id="async-0", marks=pytest.mark.exhaustive),
        pytest.param(True, 3, id="async-3"),
    ],
)
def test_a_stream_whose_server_is_lost_before_its_first_answer(
    tiny_models: Path, asynchronous: bool, sent: int
) -> None:
    """The stream goes on with the server that takes the place of the first."""
    with ExitStack() as stack:
        server = stack.enter_context(running_server(tiny_models, must_end_well=False))

        def images() -> Iterator[ImageArray]:
            for _ in range(sent):
                yield GREY.random_images(100)
            server.process.kill()
            server.process.wait()
            stack.enter_context(running_server(tiny_models, "--address", server.address))
            yield GREY.random_images(100)

        def synchronous_stream() -> int:
            with Client(server.address, timeout=20) as client:
                client.features(GREY.random_images(1))  # Asks for the limits, as the first call does.
                server.process.send_signal(signal.SIGSTOP)
                return sum(len(chunk.positions) for chunk in client.stream_features(images()))

        async def asynchronous_stream() -> int:
            async with AsyncClient(server.address, timeout=20) as client:
                await client.features(GREY.random_images(1))
                server.process.send_signal(signal.SIGSTOP)
                return sum([len(chunk.positions) async for chunk in client.stream_features(images())])

        received = asyncio.run(asynchronous_stream()) if asynchronous else synchronous_stream()
        assert received == 100 * (sent + 1)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_server_that_ends_a_stream_early(asynchronous: bool) -> None:
    """The fake server answers the first message alone, and ends the call without an error."""
    with fake_server() as server:
        images = [GREY.random_images(300)] * 50

        def synchronous_stream() -> None:
            with Client(server.address, timeout=20) as client:
                list(client.stream_features(images))

        async def asynchronous_stream() -> None:
            async with AsyncClient(server.address, timeout=20) as client:
                async for _ in client.stream_features(images):
                    pass

        with pytest.raises(
            PartedVAEError, match=r"ended the stream before all images were sent|was closed while images"
        ):
            asyncio.run(asynchronous_stream()) if asynchronous else synchronous_stream()


def test_a_closed_client() -> None:
    """Calls after close are refused; a new `with` block connects again."""
    with fake_server() as server:
        client = Client(server.address)
        with client:
            client.models()
        with pytest.raises(InvalidRequestError, match=f"the client of {server.address} is closed"):
            client.features(np.zeros((1, 8, 6), np.uint8))
        with client:
            client.models()
        assert server.calls == 2
