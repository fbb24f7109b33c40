"""Tests of the running server: health, reflection, shutdown, and independence of clients."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import grpc
import numpy as np
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from partedvae.serving.grpc.health import Health
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub
from partedvae.v1.tensors_pb2 import Images, PackedImages
from tests.bundles import GREY
from tests.fronts import GRPCIO_FRONT
from tests.processes import PATIENCE, ServerProcess, running_server, wait_until
from tests.serving.gated_server import LARGE

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("each_front"), GRPCIO_FRONT]

SERVICE = "partedvae.v1.PartedVAEService"
SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING


def classify_request(count: int, seed: int = 0) -> pb.ClassifyRequest:
    images = GREY.random_images(count, seed)
    return pb.ClassifyRequest(images=Images(packed=PackedImages(data=images.tobytes(), shape=images.shape)))


def assert_answer(reply: pb.ClassifyResponse, count: int, seed: int = 0) -> None:
    """Check that a reply belongs to `classify_request(count, seed)`."""
    expected = GREY.encode(GREY.random_images(count, seed))["digit.probs"].argmax(axis=1)
    np.testing.assert_array_equal(reply.factors[0].class_indices, expected)


@pytest.mark.parametrize("service", ["", SERVICE, "inference.GRPCInferenceService"])
def test_health(server: ServerProcess, service: str) -> None:
    """The server as a whole and its services are SERVING, by Check and by Watch."""
    with grpc.insecure_channel(server.address) as channel:
        stub = HealthStub(channel)
        assert stub.Check(HealthCheckRequest(service=service)).status == SERVING
        watch = stub.Watch(HealthCheckRequest(service=service))
        assert next(watch).status == SERVING
        watch.cancel()


def test_health_without_a_model(tmp_path: Path) -> None:
    """Without a model the services are NOT_SERVING, by Check and by Watch, until there is one again."""
    GREY.write(tmp_path / "tiny")
    with running_server(tmp_path, "--poll-seconds", "0.1") as server, grpc.insecure_channel(server.address) as channel:
        stub = HealthStub(channel)
        watch = stub.Watch(HealthCheckRequest(service=SERVICE))
        assert next(watch).status == SERVING
        shutil.rmtree(tmp_path / "tiny")
        assert next(watch).status == NOT_SERVING
        assert stub.Check(HealthCheckRequest(service="inference.GRPCInferenceService")).status == NOT_SERVING
        assert stub.Check(HealthCheckRequest()).status == SERVING
        GREY.write(tmp_path / "tiny")
        assert next(watch).status == SERVING
        watch.cancel()


def test_health_of_an_unknown_service(server: ServerProcess) -> None:
    """As the protocol requires, Check gets NOT_FOUND, and Watch reports SERVICE_UNKNOWN and stays open."""
    with grpc.insecure_channel(server.address) as channel:
        stub = HealthStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(HealthCheckRequest(service="other"))
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        assert "no service 'other'" in (caught.value.details() or "")
        watch = stub.Watch(HealthCheckRequest(service="other"))
        assert next(watch).status == HealthCheckResponse.SERVICE_UNKNOWN
        watch.cancel()


def test_reflection(server: ServerProcess) -> None:
    """Tools such as grpcurl can list the services and describe ours."""
    with grpc.insecure_channel(server.address) as channel:
        requests = [
            ServerReflectionRequest(list_services=""),
            ServerReflectionRequest(file_containing_symbol=SERVICE),
        ]
        listed, described = ServerReflectionStub(channel).ServerReflectionInfo(iter(requests))
    names = {service.name for service in listed.list_services_response.service}
    assert names == {
        SERVICE,
        "inference.GRPCInferenceService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    assert any(b"ExtractFeatures" in proto for proto in described.file_descriptor_response.file_descriptor_proto)


@pytest.mark.slow
def test_reflection_can_be_switched_off(tiny_models: Path) -> None:
    """The services stay, and are not described."""
    with running_server(tiny_models, "--no-reflection") as process, grpc.insecure_channel(process.address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            list(ServerReflectionStub(channel).ServerReflectionInfo(iter([ServerReflectionRequest(list_services="")])))
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
        assert HealthStub(channel).Check(HealthCheckRequest(service=SERVICE)).status == SERVING


async def test_a_stop_while_a_status_is_sent_is_reported() -> None:
    """Watch yields NOT_SERVING and ends, although the server stopped before the stream was resumed."""
    health = Health([SERVICE], lambda: True)
    context = Mock(spec=grpc.aio.ServicerContext)
    watch = health.Watch(HealthCheckRequest(service=SERVICE), context)
    assert (await anext(watch)).status == SERVING
    health.stop()
    assert [reply.status async for reply in watch] == [NOT_SERVING]
    stopped = health.Watch(HealthCheckRequest(), context)
    assert [reply.status async for reply in stopped] == [NOT_SERVING]


def test_watchers_do_not_delay_shutdown(tiny_models: Path) -> None:
    """Watch streams get NOT_SERVING and end; cancelled ones have no effect."""
    with running_server(tiny_models) as server, grpc.insecure_channel(server.address) as channel:
        stub = HealthStub(channel)
        watches = [stub.Watch(HealthCheckRequest(service=name)) for name in ("", "", SERVICE, SERVICE)]
        for watch in watches:
            assert next(watch).status == SERVING
        watches[0].cancel()
        assert server.stop() == 0
        for watch in watches[1:]:
            assert [reply.status for reply in watch] == [NOT_SERVING]


class TestDuringALargeRequest:
    """The encoder blocks requests of `LARGE` images until the test releases them."""

    @pytest.fixture
    def gated(self, tiny_models: Path, tmp_path: Path) -> Iterator[ServerProcess]:
        program = ("-m", "tests.serving.gated_server", str(tmp_path))
        with running_server(tiny_models, "--threads", "2", program=program) as server:
            yield server

    @pytest.fixture
    def channel(self, gated: ServerProcess) -> Iterator[grpc.Channel]:
        with grpc.insecure_channel(gated.address) as channel:
            yield channel

    def test_small_requests_are_answered(self, channel: grpc.Channel, tmp_path: Path) -> None:
        """The event loop is not blocked: later small requests finish first, with their own results."""
        stub = PartedVAEServiceStub(channel)
        large = stub.Classify.future(classify_request(LARGE, seed=1))
        wait_until((tmp_path / "entered").exists)
        for seed in range(5):
            assert_answer(stub.Classify(classify_request(3, seed)), 3, seed)
        assert HealthStub(channel).Check(HealthCheckRequest()).status == SERVING
        assert not large.done()
        (tmp_path / "open").touch()
        assert_answer(large.result(), LARGE, seed=1)

    def test_deadline_does_not_affect_others(self, channel: grpc.Channel, tmp_path: Path) -> None:
        """The deadline of one client and the cancellation of another do not affect a third."""
        stub = PartedVAEServiceStub(channel)
        patient = stub.Classify.future(classify_request(LARGE, seed=1))
        cancelled = stub.Classify.future(classify_request(LARGE, seed=2))
        with pytest.raises(grpc.RpcError) as caught:
            stub.Classify(classify_request(LARGE, seed=3), timeout=0.3)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        cancelled.cancel()
        assert not patient.done()
        (tmp_path / "open").touch()
        assert_answer(patient.result(), LARGE, seed=1)
        assert_answer(stub.Classify(classify_request(LARGE, seed=4)), LARGE, seed=4)

    @pytest.mark.parametrize("signum", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.exhaustive)])
    def test_second_signal_ends_it(self, tiny_models: Path, tmp_path: Path, signum: signal.Signals) -> None:
        """A second signal ends the process without waiting for active calls."""
        program = ("-m", "tests.serving.gated_server", str(tmp_path))
        with (
            running_server(tiny_models, program=program, must_end_well=False) as server,
            grpc.insecure_channel(server.address) as channel,
        ):
            watch = HealthStub(channel).Watch(HealthCheckRequest())
            assert next(watch).status == SERVING
            active = PartedVAEServiceStub(channel).Classify.future(classify_request(LARGE))
            wait_until((tmp_path / "entered").exists)
            server.process.send_signal(signum)
            assert [reply.status for reply in watch] == [NOT_SERVING]
            server.process.send_signal(signum)
            assert server.process.wait(PATIENCE) == -signum
            assert active.exception() is not None

    def test_the_grace_ends(self, tiny_models: Path, tmp_path: Path) -> None:
        """Calls that are active when the grace period has passed are cancelled and recorded, and the exit code is 0."""
        program = ("-m", "tests.serving.gated_server", str(tmp_path))
        options = ("--grace-seconds", "0.5", "--log-level", "debug")
        with (
            running_server(tiny_models, *options, program=program) as server,
            grpc.insecure_channel(server.address) as channel,
        ):
            active = PartedVAEServiceStub(channel).Classify.future(classify_request(LARGE))
            wait_until((tmp_path / "entered").exists)
            assert server.stop() == 0
            assert active.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
            assert f"/{SERVICE}/Classify CANCELLED" in server.log_file.read_text()

    def test_sigterm_finishes_it(self, gated: ServerProcess, channel: grpc.Channel, tmp_path: Path) -> None:
        """After SIGTERM health is NOT_SERVING, new calls are rejected, active calls finish, and the exit code is 0."""
        stub = PartedVAEServiceStub(channel)
        watch = HealthStub(channel).Watch(HealthCheckRequest(service=SERVICE))
        assert next(watch).status == SERVING
        active = stub.Classify.future(classify_request(LARGE))
        wait_until((tmp_path / "entered").exists)
        gated.process.terminate()
        assert [reply.status for reply in watch] == [NOT_SERVING]
        with grpc.insecure_channel(gated.address) as late, pytest.raises(grpc.RpcError) as caught:
            PartedVAEServiceStub(late).Classify(classify_request(1))
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert not active.done()
        (tmp_path / "open").touch()
        assert_answer(active.result(), LARGE)
        assert gated.process.wait(PATIENCE) == 0
        assert "Traceback" not in gated.log_file.read_text()
