"""Streams through the native front, which all reach the server behind it by one connection."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from partedvae.serving.grpc.server import MAX_WATCHERS
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub
from partedvae.v1.tensors_pb2 import Images, PackedImages
from tests.bundles import GREY
from tests.processes import PATIENCE, ServerProcess, running_server, wait_until

pytest.importorskip("pygrpc_native")

MAX_CALLS = 8
OPTIONS = (("grpc.use_local_subchannel_pool", 1),)
"""A connection per channel."""


@pytest.fixture(scope="module")
def server(tiny_models: Path) -> Iterator[ServerProcess]:
    with running_server(tiny_models, "--front", "native", "--max-concurrent-calls", str(MAX_CALLS)) as process:
        yield process


def test_each_client_can_watch(server: ServerProcess) -> None:
    """More clients watch the health than one connection may: each of them is another, although all share one."""
    with ExitStack() as stack:
        for _ in range(2 * MAX_WATCHERS):
            channel = stack.enter_context(grpc.insecure_channel(server.address, options=OPTIONS))
            watching = HealthStub(channel).Watch(HealthCheckRequest(), timeout=PATIENCE)
            stack.callback(watching.cancel)
            assert next(watching).status == HealthCheckResponse.SERVING


def test_idle_streams_do_not_keep_out_the_streams_of_others(server: ServerProcess) -> None:
    """A client whose idle streams take all places loses one of them to the stream of another client."""
    over = threading.Event()

    def one_request() -> Iterator[pb.StreamFeaturesRequest]:
        yield request
        over.wait(PATIENCE)

    pixels = PackedImages(data=GREY.random_images(1).tobytes(), shape=GREY.random_images(1).shape)
    request = pb.StreamFeaturesRequest(model=pb.ModelSelector(name="tiny"), images=Images(packed=pixels))
    with ExitStack() as stack:
        stack.callback(over.set)
        idle, other = (
            PartedVAEServiceStub(stack.enter_context(grpc.insecure_channel(server.address, options=OPTIONS)))
            for _ in range(2)
        )
        streams = [idle.StreamFeatures(one_request(), timeout=PATIENCE) for _ in range(MAX_CALLS)]
        for stream in streams:
            stack.callback(stream.cancel)
            next(stream)
        # A call takes the place of one that has waited for its client for 0.1 s.
        wait_until(lambda: _features(other, request) is grpc.StatusCode.OK)
        ended = [stream.code() for stream in streams if not stream.is_active()]
        assert set(ended) == {grpc.StatusCode.RESOURCE_EXHAUSTED}


def _features(stub: PartedVAEServiceStub, request: pb.StreamFeaturesRequest) -> grpc.StatusCode:
    """Return the status of a stream of one request."""
    stream = stub.StreamFeatures(iter([request]), timeout=PATIENCE)
    with suppress(grpc.RpcError):
        list(stream)
    code = stream.code()
    assert code in (grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED)
    return code
