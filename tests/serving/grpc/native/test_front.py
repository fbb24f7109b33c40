"""Tests of the native front over the network: bursts that it joins, and calls that it leaves to gRPC's server."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio

from partedvae.v1 import service_pb2 as pb
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub
from partedvae.v1.tensors_pb2 import Images, PackedImages
from tests.bundles import COLOURED, GREY, TinyModel
from tests.processes import PATIENCE, ServerProcess, running_server, wait_until
from tests.scraping import METRICS, metrics_of
from tests.serving.faults.support import assert_features, features_request
from tests.serving.gated_server import LARGE

# gRPC uses the first event loop of the process that it sees, so that all tests share one.
pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

EXTRACT = "/partedvae.v1.PartedVAEService/ExtractFeatures"
STREAM = "/partedvae.v1.PartedVAEService/StreamFeatures"
DEADLINE = grpc.StatusCode.DEADLINE_EXCEEDED
OK, INVALID, NOT_FOUND = grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND


@pytest.fixture(scope="module")
def measured(two_models: Path) -> Iterator[ServerProcess]:
    """Run a server with few images per request, so that bursts are several groups."""
    options = ("--front", "native", "--max-images", "10", "--log-level", "debug", *METRICS)
    with running_server(two_models, *options) as server:
        yield server


@pytest_asyncio.fixture(loop_scope="module")
async def channel(measured: ServerProcess) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(measured.address) as channel:
        yield channel


def request_of(model: TinyModel, name: str, seed: int, **more: Any) -> tuple[pb.ExtractFeaturesRequest, Any]:
    """Return a request for one image, and its outputs."""
    images = model.random_images(1, seed)
    request = pb.ExtractFeaturesRequest(
        images=Images(packed=PackedImages(data=images.tobytes(), shape=images.shape)),
        model=pb.ModelSelector(name=name, **more),
        include=[1, 2, 4],  # type: ignore[list-item]
    )
    return request, model.encode(images)


def burst(count: int) -> list[tuple[pb.ExtractFeaturesRequest, Any]]:
    """Return requests of several models and versions, some of them bad, and the outputs or the error of each."""
    requests: list[tuple[pb.ExtractFeaturesRequest, Any]] = []
    for seed in range(count):
        kind = seed % 8
        if kind < 3:
            requests.append(request_of(GREY, "tiny", seed))
        elif kind < 5:
            requests.append(request_of(COLOURED, "shapes", seed))
        elif kind == 5:
            requests.append(request_of(GREY, "tiny", seed, version=1))
        elif kind == 6:
            requests.append((request_of(GREY, "tiny", seed, version=9)[0], (NOT_FOUND, "has no version 9")))
        else:
            bad = pb.ExtractFeaturesRequest(
                images=Images(packed=PackedImages(data=b"x", shape=[1, 8, 6])), model=pb.ModelSelector(name="tiny")
            )
            requests.append((bad, (INVALID, "need 48 bytes, got 1")))
    random.Random(count).shuffle(requests)
    return requests


def assert_reply(reply: pb.ExtractFeaturesResponse, expected: Any) -> None:
    found = {"z_mean": reply.z_mean}
    for factor in reply.factors:
        found |= {f"{factor.name}.probs": factor.probs, f"{factor.name}.u_mean": factor.u_mean}
    assert len(found) == 2 * len(reply.factors) + 1
    for name, tensor in found.items():
        np.testing.assert_allclose(
            np.frombuffer(tensor.data, "<f4").reshape(tensor.shape), expected[name], atol=1e-5, err_msg=name
        )


def assert_idle(server: ServerProcess) -> None:
    """Check that no place, no memory and no row stays taken."""
    wait_until(lambda: metrics_of(server)["partedvae_requests_in_flight{}"] == 0)
    for kind in ("messages", "work"):
        wait_until(lambda name=kind: metrics_of(server)[f'partedvae_memory_reserved_bytes{{kind="{name}"}}'] == 0)  # type: ignore[misc]
    queues = [value for name, value in metrics_of(server).items() if name.startswith("partedvae_queue_rows{")]
    assert queues
    assert not any(queues)


async def test_bursts(measured: ServerProcess, channel: grpc.aio.Channel) -> None:
    """Whatever arrives together, each gets its own numbers or its own error, and each is counted once."""
    stub: Any = PartedVAEServiceStub(channel)
    before = metrics_of(measured)
    sent: Counter[str] = Counter()
    for count in (1, 7, 60, 300):
        requests = burst(count)
        calls = [stub.ExtractFeatures(request) for request, _ in requests]
        await asyncio.gather(*calls, return_exceptions=True)
        for call, (_, expected) in zip(calls, requests, strict=True):
            code = await call.code()
            sent[code.name] += 1
            if isinstance(expected, tuple):
                assert code == expected[0]
                assert expected[1] in await call.details()
            else:
                assert code == OK, await call.details()
                assert_reply(await call, expected)
    assert_idle(measured)
    after = metrics_of(measured)
    for code_name, number in sent.items():
        name = f'partedvae_request_seconds_count{{code="{code_name}",rpc="ExtractFeatures"}}'
        assert after[name] - before.get(name, 0) == number
    images = 'partedvae_images_total{rpc="ExtractFeatures"}'
    assert after[images] - before.get(images, 0) == sent["OK"]
    log = measured.log_file.read_text()
    assert "Traceback" not in log
    assert log.count(f"{EXTRACT} OK") == sent["OK"]


async def test_cancelled_in_the_middle(measured: ServerProcess, channel: grpc.aio.Channel) -> None:
    """Those that are cancelled, or have a deadline that has passed, leave the others alone."""
    stub: Any = PartedVAEServiceStub(channel)
    source = random.Random(0)
    for _ in range(10):
        requests = [request_of(GREY, "tiny", seed) for seed in range(40)]
        calls = [stub.ExtractFeatures(request) for request, _ in requests]
        await asyncio.sleep(source.choice([0, 0.001, 0.003]))
        for call in calls[::3]:
            call.cancel()
        for call, (_, expected) in list(zip(calls, requests, strict=True))[1::3]:
            assert_reply(await call, expected)
        await asyncio.gather(*calls, return_exceptions=True)
    assert_idle(measured)
    assert "Traceback" not in measured.log_file.read_text()


@pytest.mark.exhaustive
async def test_cancelled_groups_leave_the_queue(tiny_models: Path, tmp_path: Path) -> None:
    """While a session is busy, single images fill the queue, are cancelled, and make room for others."""
    program = ("-m", "tests.serving.gated_server", str(tmp_path))
    options = ("--front", "native", "--threads", "1", "--max-queue-rows", "32", *METRICS)
    with running_server(tiny_models, *options, program=program) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub: Any = PartedVAEServiceStub(channel)
            running = stub.ExtractFeatures(features_request(LARGE))
            await asyncio.to_thread(wait_until, (tmp_path / "entered").exists)
            for seed in range(3):
                waiting = [stub.ExtractFeatures(features_request(1, seed)) for _ in range(33)]
                await asyncio.wait(
                    [asyncio.ensure_future(call.code()) for call in waiting], return_when="FIRST_COMPLETED"
                )
                (refused,) = [call for call in waiting if call.done()]
                assert "32 images are already waiting, the limit is 32" in await refused.details()
                for call in waiting[::2]:
                    call.cancel()
                await asyncio.sleep(0.05)
                for call in waiting[1::2]:
                    call.cancel()
                await asyncio.to_thread(wait_until, lambda: metrics_of(server)["partedvae_requests_in_flight{}"] == 1)
            late = stub.ExtractFeatures(features_request(1, 5), timeout=0.3)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await late
            assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            await asyncio.to_thread(wait_until, lambda: metrics_of(server)["partedvae_requests_in_flight{}"] == 1)
            (tmp_path / "open").touch()
            assert_features(await running, LARGE)
            seen = metrics_of(server)
            counts = [
                seen.get(f'partedvae_request_seconds_count{{code="{code}",rpc="ExtractFeatures"}}', 0)
                for code in ("CANCELLED", "DEADLINE_EXCEEDED")
            ]
            # The client cancels the late call at its deadline, too: the server counts what comes first.
            assert counts in ([96, 1], [97, 0])


async def test_cancelled_calls_leave_the_queue_without_metrics(tiny_models: Path, tmp_path: Path) -> None:
    """The front learns of cancelled calls, and of deadlines, also where nothing else needs their details."""
    program = ("-m", "tests.serving.gated_server", str(tmp_path))
    options = ("--front", "native", "--threads", "1", "--max-queue-rows", "32")
    with running_server(tiny_models, *options, program=program) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub: Any = PartedVAEServiceStub(channel)
            running = stub.ExtractFeatures(features_request(LARGE))
            await asyncio.to_thread(wait_until, (tmp_path / "entered").exists)
            for timeout in (None, 0.5):
                waiting = [stub.ExtractFeatures(features_request(1, seed), timeout=timeout) for seed in range(33)]
                codes = [asyncio.ensure_future(call.code()) for call in waiting]
                await asyncio.wait(codes, return_when="FIRST_COMPLETED")
                if timeout is None:
                    for call in waiting:
                        call.cancel()
                assert grpc.StatusCode.RESOURCE_EXHAUSTED in await asyncio.gather(*codes)
                end = time.monotonic() + PATIENCE
                while await stub.ExtractFeatures(features_request(1), timeout=0.2).code() != DEADLINE:
                    assert time.monotonic() < end, "the queue stays full"
            (tmp_path / "open").touch()
            assert_features(await running, LARGE)


async def test_calls_that_cannot_be_taken(tiny_models: Path, tmp_path: Path) -> None:
    """A failure of the thread that takes calls is logged, and the thread goes on: there is no other."""
    program = ("-m", "tests.serving.grpc.native.failing_server", str(tmp_path))
    with running_server(tiny_models, "--front", "native", program=program) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub: Any = PartedVAEServiceStub(channel)
            (tmp_path / "fail").touch()
            for seed in range(3):
                assert_features(await stub.ExtractFeatures(features_request(1, seed), timeout=PATIENCE), 1, seed)
        log = server.log_file.read_text()
        assert log.count("calls could not be taken") == 1
        assert "MemoryError" in log
        assert not (tmp_path / "fail").exists()


async def test_gzip(channel: grpc.aio.Channel) -> None:
    request, expected = request_of(GREY, "tiny", 3)
    stub: Any = PartedVAEServiceStub(channel)
    assert_reply(await stub.ExtractFeatures(request, compression=grpc.Compression.Gzip), expected)


async def test_deflate_is_refused(channel: grpc.aio.Channel) -> None:
    """The package has gzip alone; streams have both."""
    stub: Any = PartedVAEServiceStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ExtractFeatures(request_of(GREY, "tiny", 3)[0], compression=grpc.Compression.Deflate)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert "compressed with `deflate` which isn't supported" in (caught.value.details() or "")


async def test_two_messages_in_a_unary_call(channel: Any) -> None:
    """The first one counts, as with gRPC's server."""
    first, expected = request_of(GREY, "tiny", 1)
    call: Any = channel.stream_unary(EXTRACT)(
        [first.SerializeToString(), request_of(COLOURED, "shapes", 1)[0].SerializeToString()]
    )
    assert_reply(pb.ExtractFeaturesResponse.FromString(await call), expected)


async def test_other_methods(channel: Any) -> None:
    """A method that nobody has is UNIMPLEMENTED; a stream's method can be called with one message."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary("/partedvae.v1.PartedVAEService/Nothing")(b"")
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    request, expected = request_of(GREY, "tiny", 2)
    message = pb.StreamFeaturesRequest(model=request.model, images=request.images, include=request.include)
    reply: Any = await channel.unary_unary(STREAM)(message.SerializeToString())
    assert_reply(pb.StreamFeaturesResponse.FromString(reply).features, expected)


@pytest.mark.parametrize("host", [pytest.param("[::1]", marks=pytest.mark.exhaustive), "[::]", "localhost"])
async def test_addresses(tiny_models: Path, host: str) -> None:
    if not socket.has_ipv6:
        pytest.skip("the system has no IPv6")
    with running_server(tiny_models, "--front", "native", "--address", f"{host}:0") as server:
        assert server.address.startswith(host + ":")
        port = server.address.rpartition(":")[2]
        for target in ("localhost",) if host == "localhost" else ("[::1]", "127.0.0.1")[: 1 + (host == "[::]")]:
            async with grpc.aio.insecure_channel(f"{target}:{port}") as channel:
                stub: Any = PartedVAEServiceStub(channel)
                reply = await stub.GetModel(pb.GetModelRequest())
                assert reply.front == "native"
                streamed: Any = stub.StreamFeatures([pb.StreamFeaturesRequest(images=features_request(3).images)])
                assert_features((await anext(aiter(streamed))).features, 3)
