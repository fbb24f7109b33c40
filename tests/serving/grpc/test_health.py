"""Tests of the health service: Watch by one poller, and what it does with requests that are none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast
from unittest.mock import Mock
from urllib.parse import unquote

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from partedvae.serving.errors import ModelNotFoundError
from partedvae.serving.grpc import health as module
from partedvae.serving.grpc.health import Health
from partedvae.serving.grpc.server import MAX_CONTROL_BYTES, MAX_WATCHERS
from tests.processes import PATIENCE, ServerProcess
from tests.serving.grpc.http2_client import Http2Client, framed

# gRPC uses the first event loop of the process that it sees, so that all tests share one.
pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVICE = "partedvae.v1.PartedVAEService"
CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
INVALID_ARGUMENT, EXHAUSTED, INTERNAL = "3", "8", "13"


class Models:
    """Whether a model is ready, and how often that was asked."""

    def __init__(self) -> None:
        self.ready = True
        self.asked = 0

    def can_answer(self) -> bool:
        self.asked += 1
        return self.ready


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll without delay."""
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)


@asynccontextmanager
async def polled(models: Models) -> AsyncIterator[Health]:
    health = Health([SERVICE], models.can_answer)
    task = asyncio.create_task(health.run())
    try:
        yield health
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def watch(health: Health, service: str = "") -> AsyncIterator[HealthCheckResponse]:
    return aiter(health.Watch(HealthCheckRequest(service=service), Mock(spec=grpc.aio.ServicerContext)))


@pytest.mark.usefixtures("quick")
async def test_all_watchers_get_each_change() -> None:
    """Those of a service get it, those of the whole server do not, and waiting asks nothing per watcher."""
    models = Models()
    async with polled(models) as health:
        watchers = [watch(health, SERVICE) for _ in range(100)]
        whole = watch(health)
        for expected in (SERVING, NOT_SERVING, SERVING):
            models.ready = expected == SERVING
            replies = await asyncio.wait_for(asyncio.gather(*[anext(each) for each in watchers]), PATIENCE)
            assert {reply.status for reply in replies} == {expected}
        assert (await anext(whole)).status == SERVING
        later: Any = asyncio.ensure_future(cast("Any", anext(whole)))
        waiting = [asyncio.ensure_future(cast("Any", anext(each))) for each in watchers]
        asked = models.asked
        while models.asked < asked + 150:  # One look of the poller per interval, after one of each watcher.
            await asyncio.sleep(0.01)
        assert not any(each.done() for each in (later, *waiting))
        health.stop()
        replies = await asyncio.wait_for(asyncio.gather(later, *waiting), PATIENCE)
        assert {reply.status for reply in replies} == {NOT_SERVING}
        for each in (whole, *watchers):
            with pytest.raises(StopAsyncIteration):
                await anext(each)


async def test_long_names_are_cut() -> None:
    """The message of an unknown service names its beginning, and the services that there are."""
    health = Health([SERVICE], lambda: True)
    with pytest.raises(ModelNotFoundError) as caught:
        await health.Check(HealthCheckRequest(service="x" * 3000), Mock(spec=grpc.aio.ServicerContext))
    assert str(caught.value) == f"no service '{'x' * 100}'; choose from ['', '{SERVICE}']"


@asynccontextmanager
async def client_of(server: ServerProcess) -> AsyncIterator[Http2Client]:
    async with Http2Client.connected(int(server.address.rpartition(":")[2])) as client:
        yield client


@pytest.mark.parametrize("path", [CHECK, WATCH, REFLECTION])
@pytest.mark.parametrize(
    "message", [b"\xff" * 100, b"\x0a\xff", b"\x0b" * 50, b"\x1f\x8b" + b"x" * 50], ids=["tag", "end", "group", "gzip"]
)
async def test_garbage(server: ServerProcess, path: str, message: bytes) -> None:
    """Bytes that are no request are the client's fault, in every service."""
    async with client_of(server) as client:
        status = await client.status(await client.call(path, framed(message)))
        assert status["grpc-status"] == INVALID_ARGUMENT
        assert "Exception" not in status["grpc-message"]


@pytest.mark.parametrize("path", [CHECK, WATCH, f"/{SERVICE}/Classify"])
async def test_a_call_without_a_message(server: ServerProcess, each_front: str, path: str) -> None:
    """A call that ends before its request is answered at once."""
    async with client_of(server) as client:
        status = await client.status(await client.call(path))
        if each_front == "native" and path != WATCH:  # The package does not show such calls to the server.
            assert (status["grpc-status"], status["grpc-message"]) == (INTERNAL, "Missing%20request%20message.")
        else:
            assert status["grpc-status"] == INVALID_ARGUMENT
            assert status["grpc-message"] == "the call has no message; send one request"


@pytest.mark.parametrize("path", [CHECK, WATCH, REFLECTION])
async def test_large_requests(server: ServerProcess, path: str) -> None:
    """Health checks and reflection have a limit of their own."""
    async with client_of(server) as client:
        status = await client.status(await client.call(path, framed(b"\x0a" * (MAX_CONTROL_BYTES + 1))))
        assert status["grpc-status"] == EXHAUSTED
        assert unquote(status["grpc-message"]).startswith(
            "the request has 4,097 bytes, above the limit of 4,096; make it smaller"
        )


async def test_watchers_of_the_native_front(native_server: ServerProcess) -> None:
    """They have one connection to gRPC's server, whose limits for one connection do not apply."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(client_of(native_server)) for _ in range(3)]
        for client in clients:
            streams = [await client.call(WATCH, framed(b"")) for _ in range(100)]
            await client.until(lambda c=client, all_=streams: all(stream in c.received for stream in all_))
        assert not any(client.statuses for client in clients)


async def test_more_watchers_than_the_limit(each_front: str, server: ServerProcess) -> None:
    """One connection has a limit of Watch calls; its probes and other connections go on."""
    if each_front == "native":
        pytest.skip("streams of the native front have no connection of their own")
    async with client_of(server) as client:
        streams = [await client.call(WATCH, framed(b"")) for _ in range(MAX_WATCHERS)]
        await client.until(lambda: all(stream in client.received for stream in streams))
        refused = await client.status(await client.call(WATCH, framed(b"")))
        assert refused["grpc-status"] == EXHAUSTED
        assert "grpc-retry-pushback-ms" in refused
        assert (await client.status(await client.call(CHECK, framed(b""))))["grpc-status"] == "0"
        async with grpc.aio.insecure_channel(server.address) as channel:
            other = HealthStub(channel).Watch(HealthCheckRequest())
            assert (await other.read()).status == SERVING
            other.cancel()
        for stream in streams:
            assert stream not in client.statuses
            await client.reset(stream)
