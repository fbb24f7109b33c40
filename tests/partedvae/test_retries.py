"""Refused calls of both clients are made again when the server says, and not together with those of other clients."""

from __future__ import annotations

import threading
from itertools import pairwise
from typing import Any

import grpc
import numpy as np
import pytest
from click.testing import CliRunner
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo  # type: ignore[import-untyped]  # has no types
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # has no types

from partedvae import AsyncClient, Client, DeadlineError, OverloadedError, UnavailableError
from partedvae.cli.main import main
from tests.partedvae.conftest import Call, asynchronous, synchronous
from tests.partedvae.fake_server import Refusal, fake_server

FULL = "100 images wait already"
OVERLOADED: Refusal = (grpc.StatusCode.RESOURCE_EXHAUSTED, FULL, 10)
STOPPING: Refusal = (grpc.StatusCode.UNAVAILABLE, "the server is stopping", None)
IMAGES = np.zeros((3, 28, 28), np.uint8)


def retry_info(milliseconds: int) -> bytes:
    """Return a google.rpc.Status with a RetryInfo, without gRPC's pushback."""
    delay, detail = Duration(), AnyMessage()
    delay.FromMilliseconds(milliseconds)
    detail.Pack(RetryInfo(retry_delay=delay))
    status: bytes = Status(code=8, message=FULL, details=[AnyMessage(), detail]).SerializeToString()
    return status


def error_info(reason: str, domain: str = "partedvae.v1") -> bytes:
    """Return a google.rpc.Status with an ErrorInfo, without gRPC's pushback."""
    detail = AnyMessage()
    detail.Pack(ErrorInfo(reason=reason, domain=domain))
    status: bytes = Status(code=8, message=FULL, details=[detail]).SerializeToString()
    return status


@pytest.mark.parametrize(
    ("call", "method"),
    [
        pytest.param(synchronous, "models", id="sync-models"),
        pytest.param(asynchronous, "features", id="async-features"),
        pytest.param(synchronous, "features", id="sync-features", marks=pytest.mark.exhaustive),
        pytest.param(asynchronous, "models", id="async-models", marks=pytest.mark.exhaustive),
    ],
    indirect=["call"],
)
def test_calls_are_retried(call: Call, method: str) -> None:
    """Failures are retried within the timeout, also of a chunk that is larger than gRPC's default retry buffer."""
    args = (np.zeros((1, 1500, 2000), np.uint8),) if method == "features" else ()
    with fake_server(OVERLOADED, STOPPING, *[OVERLOADED] * 4) as server:
        call(server.address, method, *args)
        assert server.calls == 7


CODES = [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE]
ADVICE = [pytest.param(200, id="pushback"), pytest.param(retry_info(200), id="info")]


@pytest.mark.parametrize("advice", ADVICE)
@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("method", [pytest.param("models", marks=pytest.mark.exhaustive), "features"])
def test_the_servers_time_is_waited_for(call: Call, method: str, code: grpc.StatusCode, advice: int | bytes) -> None:
    """Of calls, and of the chunks of a call."""
    with fake_server((code, "busy", advice), (code, "busy", advice)) as server:
        call(server.address, method, *([IMAGES] if method == "features" else []))
        first, second, third = server.times
    assert second - first >= 0.2
    assert third - second >= 0.2


@pytest.mark.parametrize("code", CODES)
def test_a_stream_waits_for_the_servers_time(code: grpc.StatusCode) -> None:
    with fake_server((code, "busy", 200), (code, "busy", 200), streams=True) as server:
        with Client(server.address) as client:
            assert len(list(client.stream_features(IMAGES))) == 1
        first, second, third = server.times
    assert second - first >= 0.2
    assert third - second >= 0.2


@pytest.mark.exhaustive
@pytest.mark.parametrize("code", [CODES[0], *(pytest.param(code, marks=pytest.mark.exhaustive) for code in CODES[1:])])
async def test_an_asynchronous_stream_waits_for_the_servers_time(code: grpc.StatusCode) -> None:
    """A status that comes while a message is sent may be lost by grpc.aio; a client waits less than 0.5 s then."""
    with fake_server(*[(code, "busy", 500)] * 4, streams=True) as server:
        async with AsyncClient(server.address) as client:
            assert len([chunk async for chunk in client.stream_features(IMAGES)]) == 1
        times = server.times
    assert len(times) == 5
    assert max(later - earlier for earlier, later in pairwise(times)) >= 0.5


def test_lasting_overload_is_an_error_with_what_was_waited(call: Call) -> None:
    """After the timeout, the error has the server's time, how often it refused and how long the client waited."""
    with fake_server(*[(grpc.StatusCode.RESOURCE_EXHAUSTED, FULL, 100)] * 99) as server:
        with pytest.raises(OverloadedError) as caught:
            call(server.address, "models", settings={"timeout": 1.0})
        assert 2 <= server.calls <= 10
        refused = f"refused {server.calls} times, "
    assert caught.value.retry_after == 0.1
    assert str(caught.value).startswith(f"{FULL} (the server asks to wait for 0.1 s; raise timeout= to allow it; ")
    assert refused in str(caught.value)
    assert "s were waited between the attempts)" in str(caught.value)


@pytest.mark.parametrize("advice", [3_600_000, 10**14, retry_info(3_600_000)], ids=["hour", "centuries", "info"])
def test_a_time_beyond_the_timeout_is_not_waited_for(call: Call, advice: int | bytes) -> None:
    with fake_server((grpc.StatusCode.RESOURCE_EXHAUSTED, FULL, advice)) as server:
        with pytest.raises(OverloadedError, match="raise timeout= to allow it") as caught:
            call(server.address, "models", settings={"timeout": 5.0})
        assert server.calls == 1
    assert caught.value.retryable
    with fake_server((grpc.StatusCode.RESOURCE_EXHAUSTED, FULL, advice)) as server:
        with pytest.raises(OverloadedError, match="raise timeout= to allow it"):
            call(server.address, "models", settings={"timeout": None})
        assert server.calls == 1


@pytest.mark.parametrize(
    "refusal",
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "the message is too large", -1),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "too large, in the details", error_info("MESSAGE_TOO_LARGE")),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "no number", "soon"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "no whole number", "1.5"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "too many digits", "9" * 5000),
        (grpc.StatusCode.UNAVAILABLE, "for good", -1),
        (grpc.StatusCode.INVALID_ARGUMENT, "no images", 10),
        (grpc.StatusCode.INTERNAL, "see the log", None),
    ],
    ids=lambda refusal: refusal[1],
)
@pytest.mark.parametrize("method", ["models", "features"])
def test_other_failures_are_not_retried(call: Call, method: str, refusal: Any) -> None:
    with fake_server(refusal, refusal) as server:
        with pytest.raises(Exception, match=refusal[1]):
            call(server.address, method, *([IMAGES] if method == "features" else []))
        assert server.calls == 1


@pytest.mark.parametrize("details", [error_info("OTHER"), error_info("MESSAGE_TOO_LARGE", "other.v1")])
def test_other_details_do_not_prevent_a_retry(call: Call, details: bytes) -> None:
    with fake_server((grpc.StatusCode.RESOURCE_EXHAUSTED, FULL, details)) as server:
        call(server.address, "models")
        assert server.calls == 2


def test_attempts_without_a_time_are_few(call: Call) -> None:
    """A server that is not there is reported soon, and details that are no google.rpc.Status are none."""
    for refusal in (STOPPING, (grpc.StatusCode.RESOURCE_EXHAUSTED, FULL, b"\xff\xff")):
        with fake_server(*[refusal] * 9) as server:
            with pytest.raises((UnavailableError, OverloadedError)):
                call(server.address, "models")
            assert server.calls == 4


def test_a_stream_that_is_refused_for_good(call: Call) -> None:
    """As calls are: at once where the time is too long, and with what was waited at the end."""
    with (
        fake_server((grpc.StatusCode.RESOURCE_EXHAUSTED, FULL, 3_600_000), streams=True) as server,
        Client(server.address, timeout=5) as client,
    ):
        with pytest.raises(OverloadedError, match=r"asks to wait for 3,600 s; raise timeout="):
            list(client.stream_features(IMAGES))
        assert server.calls == 1
    with (
        fake_server(*[(grpc.StatusCode.RESOURCE_EXHAUSTED, FULL, 100)] * 99, streams=True) as server,
        Client(server.address, timeout=1) as client,
        pytest.raises(OverloadedError, match=r"refused \d+ times, [\d.]+ s were waited"),
    ):
        list(client.stream_features(IMAGES))


def test_clients_that_are_refused_together_do_not_return_together() -> None:
    """Sixteen clients with the same time come back at different times, none before it."""
    count = 16
    refused = [(grpc.StatusCode.RESOURCE_EXHAUSTED, FULL, 400)] * count
    with fake_server(*refused) as server:
        clients = [Client(server.address, connections=1) for _ in range(count)]
        threads = [threading.Thread(target=client.models) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for client in clients:
            client.close()
        first, second = server.times[:count], sorted(server.times[count:])
    assert len(second) == count
    assert second[0] - first[0] >= 0.4
    spread = second[-1] - second[0]
    assert spread > 0.1


def test_a_deadline_after_refusals_names_them(call: Call) -> None:
    """The last attempt is not answered in time: the error also has the refusal before it."""
    with fake_server((grpc.StatusCode.RESOURCE_EXHAUSTED, FULL, 100)) as server:
        server.delay = 3.0
        with pytest.raises(DeadlineError, match=f"did not answer in time.*refused once.*the last refusal was: {FULL}"):
            call(server.address, "models", settings={"timeout": 1.0})


def test_commands_wait_too() -> None:
    """Their error names the option."""
    full: Refusal = (grpc.StatusCode.RESOURCE_EXHAUSTED, FULL, 100)
    with fake_server(full, full) as server:
        result = CliRunner().invoke(main, ["models", "--server", server.address])
        assert (result.exit_code, server.calls) == (0, 3), result.output
    with fake_server((grpc.StatusCode.RESOURCE_EXHAUSTED, FULL, 60_000)) as server:
        result = CliRunner().invoke(main, ["models", "--server", server.address, "--timeout", "5"])
        assert server.calls == 1
        assert result.exit_code == 1
        assert result.output == (f"Error: {FULL} (the server asks to wait for 60 s; raise --timeout to allow it)\n")
