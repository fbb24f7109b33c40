"""Faulty clients: deadlines, cancellation, lost connections, overload, and clients that do not read."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]  # has no types
from grpc_status import rpc_status

from partedvae.v1 import service_pb2 as pb
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub
from tests.fronts import NATIVE_FRONT
from tests.processes import PATIENCE, ServerProcess, running_server, wait_until
from tests.scraping import METRICS, active_calls, metrics_of
from tests.serving.faults.support import (
    assert_features,
    features_request,
    images_message,
    resident_bytes,
    wait_until_still,
)
from tests.serving.gated_server import LARGE

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("each_front"), NATIVE_FRONT]

QUEUE = 32


@pytest.fixture
def gated(tiny_models: Path, tmp_path: Path) -> Iterator[ServerProcess]:
    """Run a server with one session and a queue of `QUEUE` images, using `tests.serving.gated_server`."""
    program = ("-m", "tests.serving.gated_server", str(tmp_path))
    options = ("--threads", "1", "--max-queue-rows", str(QUEUE), *METRICS)
    with running_server(tiny_models, *options, program=program) as server:
        yield server


@pytest.fixture
def stub(gated: ServerProcess) -> Iterator[PartedVAEServiceStub]:
    with grpc.insecure_channel(gated.address) as channel:
        yield PartedVAEServiceStub(channel)


def test_one_deadline_in_a_batch_of_four(gated: ServerProcess, stub: PartedVAEServiceStub, tmp_path: Path) -> None:
    """One of four queued calls exceeds its deadline, a running one is cancelled; the other three get their own rows."""
    running = stub.ExtractFeatures.future(features_request(LARGE))
    wait_until((tmp_path / "entered").exists)
    patient = [stub.ExtractFeatures.future(features_request(2, seed)) for seed in range(3)]
    wait_until(lambda: active_calls(gated) == 4)
    with pytest.raises(grpc.RpcError) as caught:
        stub.ExtractFeatures(features_request(2, seed=3), timeout=0.3)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    running.cancel()
    wait_until(lambda: active_calls(gated) == 3)
    assert not any(call.done() for call in patient)
    (tmp_path / "open").touch()
    for seed, call in enumerate(patient):
        assert_features(call.result(), 2, seed)
    # Four calls would have 8 rows: the late one left the queue before the batch started.
    assert metrics_of(gated)['partedvae_batch_rows_sum{graph="encoder",model="tiny"}'] == LARGE + 6


def test_two_hundred_against_a_queue_of_32(gated: ServerProcess, stub: PartedVAEServiceStub, tmp_path: Path) -> None:
    """As many calls as fit into the queue succeed; the others are rejected immediately, with a retry delay."""
    running = stub.ExtractFeatures.future(features_request(LARGE))
    wait_until((tmp_path / "entered").exists)
    calls = [stub.ExtractFeatures.future(features_request(1, seed)) for seed in range(200)]
    wait_until(lambda: sum(call.done() for call in calls) == 200 - QUEUE)
    for call in [call for call in calls if call.done()]:
        assert call.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert f"{QUEUE} images are already waiting, the limit is {QUEUE}: try again in" in call.details()
        (detail,) = rpc_status.from_call(call).details
        retry = RetryInfo()
        assert detail.Unpack(retry)
        assert retry.retry_delay.ToMicroseconds() > 0
    (tmp_path / "open").touch()
    assert Counter(call.code() for call in calls)[grpc.StatusCode.OK] == QUEUE
    for seed, call in enumerate(calls):
        if call.code() == grpc.StatusCode.OK:
            assert_features(call.result(), 1, seed)
    assert_features(running.result(), LARGE)
    seen = metrics_of(gated)
    assert seen['partedvae_request_seconds_count{code="RESOURCE_EXHAUSTED",rpc="ExtractFeatures"}'] == 200 - QUEUE
    assert seen['partedvae_request_seconds_count{code="OK",rpc="ExtractFeatures"}'] == QUEUE + 1


VANISHING = """
import grpc
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub
from tests.serving.faults.support import images_message
import sys

def requests():
    while True:
        yield pb.StreamFeaturesRequest(images=images_message(9))

for reply in PartedVAEServiceStub(grpc.insecure_channel(sys.argv[1])).StreamFeatures(requests()):
    print(len(reply.features.factors), flush=True)
"""


def test_caller_vanishes_mid_stream(gated: ServerProcess, stub: PartedVAEServiceStub, tmp_path: Path) -> None:
    """The calls of a killed client are removed, and other clients are served."""
    (tmp_path / "open").touch()
    with subprocess.Popen(
        [sys.executable, "-c", VANISHING, gated.address], stdout=subprocess.PIPE, text=True
    ) as caller:
        assert caller.stdout is not None
        assert [caller.stdout.readline() for _ in range(3)] == ["1\n"] * 3
        assert active_calls(gated) == 1
        caller.kill()
        caller.wait(PATIENCE)
    wait_until(lambda: active_calls(gated) == 0)
    assert_features(stub.ExtractFeatures(features_request(3)), 3)
    log = gated.log_file.read_text()
    assert "Traceback" not in log
    assert "ERROR" not in log


CHUNK, CHUNKS = 2048, 1500
"""Images per chunk, and chunks: 150 MB of requests and 160 MB of replies in total."""


def test_a_caller_that_does_not_read(tiny_models: Path) -> None:
    """The server stops reading a stream whose replies are not read: memory stays bounded, and nothing is lost."""
    chunks = [pb.StreamFeaturesRequest(images=images_message(CHUNK, seed)) for seed in range(7)]
    enough = threading.Event()
    sent = 0

    def requests() -> Iterator[pb.StreamFeaturesRequest]:
        nonlocal sent
        while sent < CHUNKS and not enough.is_set():
            sent += 1
            yield chunks[(sent - 1) % len(chunks)]

    with (
        running_server(tiny_models, *METRICS) as server,
        grpc.insecure_channel(server.address) as channel,
        grpc.insecure_channel(server.address) as other,
    ):
        stub = PartedVAEServiceStub(channel)
        for seed, reply in enumerate(stub.StreamFeatures(iter(chunks))):
            assert_features(reply.features, CHUNK, seed)
        before = resident_bytes(server)
        call = stub.StreamFeatures(requests())
        wait_until_still(lambda: sent)
        assert sent < CHUNKS // 2
        assert resident_bytes(server) - before < 50_000_000
        assert_features(PartedVAEServiceStub(other).ExtractFeatures(features_request(3)), 3)
        enough.set()
        read = 0
        for reply in call:
            assert_features(reply.features, CHUNK, read % len(chunks))
            read += 1
        assert read == sent
