"""Tests of `partedvae.serving.grpc.handlers` with a real server and handlers that raise given errors."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]  # has no types
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # has no types

from partedvae.serving.errors import (
    BundleError,
    DeviceError,
    ImageError,
    InvalidInputError,
    ModelNotFoundError,
    QueueFullError,
    StoppingError,
)
from partedvae.serving.grpc.call_policy import CallPolicy
from partedvae.serving.grpc.errors import INTERNAL_TEXT, MAX_DETAILS
from partedvae.serving.grpc.handlers import CallHandlers, policy_of
from partedvae.serving.grpc.limiter import CallLimiter
from partedvae.serving.logs.formatters import JsonFormatter
from partedvae.serving.memory_budget import MemoryBudget
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub

SERVICE = "partedvae.v1.PartedVAEService"


# gRPC uses the first event loop of the process that it sees, so that all tests share one.
pytestmark = pytest.mark.asyncio(loop_scope="module")


Generate = Callable[[pb.GenerateRequest, Any], Awaitable[pb.GenerateResponse]]


def serving(
    generate: Generate, executor: Executor, max_calls: int = 1024, max_message_bytes: int = 64_000_000
) -> CallHandlers:
    """Return the handlers of a service whose Generate is given, with given limits."""
    policy = CallPolicy(limiter=CallLimiter(max_calls), max_message_bytes=max_message_bytes)
    handlers = CallHandlers({f"/{SERVICE}/": policy}, MemoryBudget(1 << 30), executor)
    rpc: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(
        generate,
        request_deserializer=pb.GenerateRequest.FromString,
        response_serializer=pb.GenerateResponse.SerializeToString,
    )
    handlers.add_registered_method_handlers(SERVICE, {"Generate": rpc})
    return handlers


async def call_failing(error: BaseException, timeout: float | None = None) -> grpc.aio.AioRpcError:
    """Call a method that raises an error; return the error that the client gets."""

    async def handler(request: pb.GenerateRequest, context: Any) -> pb.GenerateResponse:
        if timeout is not None:
            await asyncio.Event().wait()
        raise error

    executor = ThreadPoolExecutor(1)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([serving(handler, executor)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await PartedVAEServiceStub(channel).Generate(pb.GenerateRequest(count=3), timeout=timeout)
            return caught.value
    finally:
        await server.stop(None)
        executor.shutdown()


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
async def test_domain_errors(caplog: pytest.LogCaptureFixture, error: Exception, code: grpc.StatusCode) -> None:
    """Domain errors keep their message and have their status; the call is logged once, at debug level."""
    caplog.set_level(logging.DEBUG, "partedvae")
    answer = await call_failing(error)
    assert (answer.code(), answer.details()) == (code, str(error))
    (record,) = [r for r in caplog.records if r.name.startswith("partedvae")]
    assert record.getMessage().startswith(f"/{SERVICE}/Generate {code.name} ")
    assert record.getMessage().endswith(" ms, 3 images")


async def test_unknown_errors(caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected exception is logged with its traceback, and the client gets only a fixed message."""
    answer = await call_failing(KeyError("secret"))
    assert (answer.code(), answer.details()) == (grpc.StatusCode.INTERNAL, INTERNAL_TEXT)
    assert "Traceback" in caplog.text
    assert "KeyError: 'secret'" in caplog.text


async def test_long_messages_are_cut() -> None:
    """A message with a huge value is cut to a length that fits into a header."""
    answer = await call_failing(InvalidInputError("ä" * 100_000))
    assert answer.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert answer.details() == "ä" * (MAX_DETAILS - 1) + "…"


async def test_deadline(caplog: pytest.LogCaptureFixture) -> None:
    """A call that exceeds its deadline is not logged as an error."""
    caplog.set_level(logging.DEBUG, "partedvae")
    answer = await call_failing(RuntimeError("never raised"), timeout=0.2)
    assert answer.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert all(record.levelno == logging.DEBUG for record in caplog.records if record.name.startswith("partedvae"))


async def serve_and_call(
    handler: Generate,
    client: Callable[[grpc.aio.Channel], Awaitable[Any]],
    max_calls: int = 1024,
    max_message_bytes: int = 64_000_000,
) -> Any:
    """Serve a handler as Generate with given limits, and run a client against it."""
    executor = ThreadPoolExecutor(1)
    options = [("grpc.max_receive_message_length", -1)]
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers([serving(handler, executor, max_calls, max_message_bytes)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            return await client(channel)
    finally:
        await server.stop(None)
        executor.shutdown()


async def answer(request: pb.GenerateRequest, context: Any) -> pb.GenerateResponse:
    return pb.GenerateResponse(seed=request.count)


async def send_bytes(channel: grpc.aio.Channel, data: bytes) -> grpc.aio.AioRpcError:
    """Send bytes as a request; return the error that the client gets."""
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/Generate")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(data)
    return caught.value


def trailing(error: grpc.aio.AioRpcError) -> dict[str, str | bytes]:
    return dict(error.trailing_metadata())


async def test_overload_has_a_retry_delay() -> None:
    """Overload is RESOURCE_EXHAUSTED with google.rpc.RetryInfo and gRPC's retry pushback."""
    error = await call_failing(QueueFullError(40, 32, 0.25))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (error.details() or "").startswith("40 images are already waiting, the limit is 32: try again in 0.25 s")
    status = Status.FromString(trailing(error)["grpc-status-details-bin"])
    assert (status.code, status.message) == (8, error.details())
    info = RetryInfo()
    assert status.details[0].Unpack(info)
    assert info.retry_delay.ToMilliseconds() == 250
    assert trailing(error)["grpc-retry-pushback-ms"] == "250"


async def test_stopping_is_unavailable() -> None:
    """Calls to a stopping server get UNAVAILABLE, so that clients retry another server."""
    assert (await call_failing(StoppingError("bye"))).code() is grpc.StatusCode.UNAVAILABLE


async def test_too_many_calls() -> None:
    """Above the limit of concurrent calls a call is rejected like other overload; active calls succeed."""

    async def client(channel: grpc.aio.Channel) -> None:
        stub = PartedVAEServiceStub(channel)
        calls = [stub.Generate(pb.GenerateRequest(count=n)) for n in (1, 2)]
        while len(arrived) < 2:
            await asyncio.sleep(0.01)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Generate(pb.GenerateRequest(count=3))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert caught.value.details() == "2 calls are active, which is the limit: try again in 0.5 s"
        assert trailing(caught.value)["grpc-retry-pushback-ms"] == "500"
        gate.set()
        assert [(await call).seed for call in calls] == [1, 2]
        assert (await stub.Generate(pb.GenerateRequest(count=4))).seed == 4

    async def wait(request: pb.GenerateRequest, context: Any) -> pb.GenerateResponse:
        arrived.append(request.count)
        await gate.wait()
        return await answer(request, context)

    arrived: list[int] = []
    gate = asyncio.Event()
    await serve_and_call(wait, client, max_calls=2)


async def test_malformed_bytes() -> None:
    """Bytes that are not a message get INVALID_ARGUMENT instead of gRPC's INTERNAL; later calls succeed."""

    async def client(channel: grpc.aio.Channel) -> grpc.aio.AioRpcError:
        error = await send_bytes(channel, b"\xff" * 60_000)
        assert (await PartedVAEServiceStub(channel).Generate(pb.GenerateRequest(count=5))).seed == 5
        return error

    error = await serve_and_call(answer, client)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert f"the bytes are not a request of /{SERVICE}/Generate: " in (error.details() or "")


async def test_message_too_large() -> None:
    """The error names size, limit and remedy, and disables gRPC's built-in retries."""
    error = await serve_and_call(answer, lambda channel: send_bytes(channel, b"\xff" * 1001), max_message_bytes=1000)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.details() == (
        "the request has 1,001 bytes, above the limit of 1,000; make it smaller; only requests with images may be "
        "larger"
    )
    assert trailing(error)["grpc-retry-pushback-ms"] == "-1"


async def test_the_debug_line_as_json(caplog: pytest.LogCaptureFixture) -> None:
    """The JSON line of a call has its fields as members, including the client's request id, cut to the limit."""

    async def client(channel: grpc.aio.Channel) -> None:
        metadata = (("x-request-id", "a" * 200),)
        await PartedVAEServiceStub(channel).Generate(pb.GenerateRequest(count=3), metadata=metadata)

    caplog.set_level(logging.DEBUG, "partedvae")
    await serve_and_call(answer, client)
    (record,) = [r for r in caplog.records if r.name == "partedvae.serving.grpc.call_record"]
    entry = json.loads(JsonFormatter(worker=2).format(record))
    assert (
        entry.items()
        >= {
            "level": "debug",
            "logger": "partedvae.serving.grpc.call_record",
            "worker": 2,
            "method": f"/{SERVICE}/Generate",
            "code": "OK",
            "images": 3,
            "request_id": "a" * 128,
        }.items()
    )
    assert entry["message"].endswith(f" ms, 3 images, id {'a' * 128}")


async def test_exceptions_as_json(caplog: pytest.LogCaptureFixture) -> None:
    """An exception is a member of the JSON line."""
    try:
        raise KeyError("x")
    except KeyError:
        logging.getLogger("partedvae.serving.test").exception("failed")
    line = JsonFormatter(worker=None).format(caplog.records[-1])
    assert "\n" not in line
    assert json.loads(line)["exception"].endswith("KeyError: 'x'")


async def test_unknown_methods() -> None:
    """A method that no service has is UNIMPLEMENTED."""

    async def call(channel: grpc.aio.Channel) -> list[grpc.StatusCode]:
        codes = []
        for method in (f"/{SERVICE}/Missing", "/other.Service/Generate"):
            rpc: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await rpc(b"")
            codes.append(caught.value.code())
        return codes

    async def never(request: pb.GenerateRequest, context: Any) -> pb.GenerateResponse:
        raise AssertionError("called for another method")

    assert await serve_and_call(never, call) == [grpc.StatusCode.UNIMPLEMENTED] * 2


async def test_methods_need_a_policy() -> None:
    """A service whose methods have no policy is refused when it is added, so that none is served without limits."""
    policy = CallPolicy(limiter=CallLimiter(1), max_message_bytes=1)
    handlers = CallHandlers({"/grpc.health.v1.Health/": policy}, MemoryBudget(1), ThreadPoolExecutor(1))
    rpc: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(print)
    with pytest.raises(ValueError, match=r"no policy for /a\.B/Get; policies: \['/grpc\.health\.v1\.Health/'\]"):
        handlers.add_registered_method_handlers("a.B", {"Get": rpc})


async def test_longest_policy_applies() -> None:
    """A method gets the policy of the longest beginning of its name."""
    service, watch = (CallPolicy(limiter=CallLimiter(1), max_message_bytes=1) for _ in range(2))
    policies = {"/a.B/": service, "/a.B/Watch": watch}
    assert policy_of("/a.B/Watch", policies) is watch
    assert policy_of("/a.B/Check", policies) is service
    assert policy_of("/a.C/Check", policies) is None
