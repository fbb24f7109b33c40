"""Tests of `serving.rpc.interceptors` on a real server with a service that fails as it is told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from partedvae.v1 import service_pb2 as pb
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub
from serving.errors import BundleError, DeviceError, ImageError, InvalidInputError, ModelNotFoundError
from serving.rpc.answers import INTERNAL_TEXT, MAX_DETAILS
from serving.rpc.door import Door
from serving.rpc.interceptors import ErrorInterceptor

SERVICE = "partedvae.v1.PartedVAEService"


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """Return one event loop for all tests: gRPC keeps to the first that it sees in a process."""
    with asyncio.Runner() as runner:
        yield runner


async def call_failing(error: BaseException, timeout: float | None = None) -> grpc.aio.AioRpcError:
    """Call a method that raises; return what the caller gets."""

    async def handler(request: pb.GenerateRequest, context: Any) -> pb.GenerateResponse:
        if timeout is not None:
            await asyncio.Event().wait()
        raise error

    server = grpc.aio.server(interceptors=[ErrorInterceptor(SERVICE, door=Door(1024))])
    rpc = grpc.unary_unary_rpc_method_handler(
        handler,
        request_deserializer=pb.GenerateRequest.FromString,
        response_serializer=pb.GenerateResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, {"Generate": rpc})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await PartedVAEServiceStub(channel).Generate(pb.GenerateRequest(count=3), timeout=timeout)
            return caught.value
    finally:
        await server.stop(None)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidInputError("too many"), grpc.StatusCode.INVALID_ARGUMENT),
        (ImageError(3, "damaged"), grpc.StatusCode.INVALID_ARGUMENT),
        (ModelNotFoundError("no model"), grpc.StatusCode.NOT_FOUND),
        (BundleError("broken"), grpc.StatusCode.FAILED_PRECONDITION),
        (DeviceError("no CUDA"), grpc.StatusCode.FAILED_PRECONDITION),
    ],
)
def test_domain_errors(
    runner: asyncio.Runner, caplog: pytest.LogCaptureFixture, error: Exception, code: grpc.StatusCode
) -> None:
    """Domain errors have a status each and keep their message; one debug line tells of the call, no traceback."""
    caplog.set_level(logging.DEBUG, "serving")
    answer = runner.run(call_failing(error))
    assert (answer.code(), answer.details()) == (code, str(error))
    (record,) = [r for r in caplog.records if r.name.startswith("serving")]
    assert record.getMessage().startswith(f"/{SERVICE}/Generate {code.name} ")
    assert record.getMessage().endswith(" ms, 3 images")


def test_unknown_errors(runner: asyncio.Runner, caplog: pytest.LogCaptureFixture) -> None:
    """An unknown exception is logged whole, and the caller learns nothing of it."""
    answer = runner.run(call_failing(KeyError("secret")))
    assert (answer.code(), answer.details()) == (grpc.StatusCode.INTERNAL, INTERNAL_TEXT)
    assert "Traceback" in caplog.text
    assert "KeyError: 'secret'" in caplog.text


def test_long_messages_are_cut(runner: asyncio.Runner) -> None:
    """A message that repeats a huge value still reaches the caller, shortened to what a header can hold."""
    answer = runner.run(call_failing(InvalidInputError("ä" * 100_000)))
    assert answer.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert answer.details() == "ä" * (MAX_DETAILS - 1) + "…"


def test_deadline(runner: asyncio.Runner, caplog: pytest.LogCaptureFixture) -> None:
    """A call that is cancelled by its deadline is no error of the server."""
    caplog.set_level(logging.DEBUG, "serving")
    answer = runner.run(call_failing(RuntimeError("never raised"), timeout=0.2))
    assert answer.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert all(record.levelno == logging.DEBUG for record in caplog.records if record.name.startswith("serving"))
