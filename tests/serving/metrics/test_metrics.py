"""Tests of `partedvae.serving.metrics.metrics` and `partedvae.serving.metrics.endpoint`."""

from __future__ import annotations

import socket
from pathlib import Path

import grpc
import pytest
from prometheus_client import CollectorRegistry

from partedvae.serving.errors import AddressError
from partedvae.serving.metrics.endpoint import own_registry, scrape_server
from partedvae.serving.metrics.metrics import Metrics
from partedvae.serving.repository.repository import ModelRepository
from partedvae.serving.repository.table import VersionStatus
from partedvae.v1.service_pb2 import (
    ClassifyRequest,
    GenerateRequest,
    PriorDraw,
    StreamFeaturesRequest,
    TransferAttributesRequest,
    TraverseRequest,
)
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub
from tests.bundles import GREY
from tests.fronts import NATIVE_FRONT
from tests.processes import running_server, wait_until
from tests.scraping import METRICS, active_calls, metrics_of, scrape
from tests.serving.faults.support import decode_request, images_message

pytestmark = pytest.mark.slow


def status(version: int, *, ready: bool = True, default: bool = False, provider: str = "") -> VersionStatus:
    return VersionStatus(name="tiny", version=version, ready=ready, reason="", is_default=default, provider=provider)


def test_batches_and_requests() -> None:
    """Histograms record waits, runs, rows and calls; gauges have the current values."""
    metrics = Metrics(registry := own_registry())
    metrics.queue_rows("tiny", 1, "encoder", 5)
    metrics.queue_rows("tiny", 2, "encoder", 6)
    metrics.queue_rows("tiny", 2, "encoder", 2)
    metrics.queue_rows("tiny", 3, "encoder", 0)
    metrics.batch_done("tiny", 1, "encoder", 12, 2, [0.002, 0.3], 0.004)
    metrics.rpc_started()
    metrics.rpc_started()
    metrics.rpc_done("ExtractFeatures", "OK", 0.02, 11)
    metrics.rpc_started()
    metrics.rpc_done("ExtractFeatures", "RESOURCE_EXHAUSTED", 0.0001, 1)
    metrics.rpc_started()
    metrics.rpc_done("ListModels", "OK", 0.0001, 0)
    with scrape_server("127.0.0.1:0", registry) as address:
        seen = scrape(address)
    encoder = 'graph="encoder",model="tiny"'
    assert seen[f"partedvae_queue_rows{{{encoder}}}"] == 7
    assert seen[f"partedvae_queue_seconds_count{{{encoder}}}"] == 2
    assert seen[f"partedvae_queue_seconds_sum{{{encoder}}}"] == pytest.approx(0.302)
    assert seen['partedvae_queue_seconds_bucket{graph="encoder",le="0.0025",model="tiny"}'] == 1
    assert seen[f"partedvae_inference_seconds_count{{{encoder}}}"] == 1
    assert seen[f"partedvae_batch_rows_sum{{{encoder}}}"] == 12
    assert seen['partedvae_batch_rows_bucket{graph="encoder",le="8.0",model="tiny"}'] == 0
    assert seen['partedvae_batch_rows_bucket{graph="encoder",le="16.0",model="tiny"}'] == 1
    assert seen['partedvae_request_seconds_count{code="OK",rpc="ExtractFeatures"}'] == 1
    assert seen['partedvae_request_seconds_count{code="RESOURCE_EXHAUSTED",rpc="ExtractFeatures"}'] == 1
    assert seen['partedvae_images_total{rpc="ExtractFeatures"}'] == 12
    assert 'partedvae_images_total{rpc="ListModels"}' not in seen
    assert seen["partedvae_requests_in_flight{}"] == 1
    assert seen["process_resident_memory_bytes{}"] > 0


def test_models() -> None:
    """States, default version and provider follow the repository; label values that no longer apply are 0."""
    metrics = Metrics(registry := CollectorRegistry())

    def seen() -> tuple[float | None, ...]:
        return (
            registry.get_sample_value("partedvae_model_versions", {"model": "tiny", "state": "ready"}),
            registry.get_sample_value("partedvae_model_versions", {"model": "tiny", "state": "broken"}),
            registry.get_sample_value("partedvae_model_served_version", {"model": "tiny"}),
            *(
                registry.get_sample_value(
                    "partedvae_execution_provider_info", {"model": "tiny", "provider": f"{name}ExecutionProvider"}
                )
                for name in ("CPU", "CUDA")
            ),
        )

    metrics.models_changed([status(1, default=True, provider="CPUExecutionProvider")])
    assert seen() == (1, 0, 1, 1, None)
    metrics.models_changed(
        [status(1), status(2, default=True, provider="CUDAExecutionProvider"), status(3, ready=False)]
    )
    assert seen() == (2, 1, 2, 0, 1)
    metrics.models_changed([])
    assert seen() == (0, 0, 0, 0, 0)


def test_repository_tells(tmp_path: Path) -> None:
    """A repository records versions that it loads and refuses, and the versions that it serves."""
    metrics = Metrics(registry := CollectorRegistry())
    GREY.write(tmp_path / "tiny")
    repository = ModelRepository(tmp_path, "cpu", observer=metrics)
    (GREY.write(tmp_path / "tiny").folder / "encoder.onnx").write_bytes(b"no graph")
    for _ in range(3):
        repository.refresh()
    GREY.write(tmp_path / "tiny")
    repository.refresh()

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, {"model": "tiny", **labels})

    assert value("partedvae_model_loads_total", outcome="loaded") == 2
    assert value("partedvae_model_loads_total", outcome="refused") == 1
    assert value("partedvae_model_versions", state="ready") == 2
    assert value("partedvae_model_versions", state="broken") == 1
    assert value("partedvae_model_served_version") == 3
    assert value("partedvae_execution_provider_info", provider="CPUExecutionProvider") == 1


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1", "127.0.0.1:99999", "::1:5"])
def test_malformed_address(address: str) -> None:
    """A malformed address is reported with an example."""
    with (
        pytest.raises(AddressError, match=r"the address .* is not HOST:PORT; examples: 127\.0\.0\.1:50051"),
        scrape_server(address, CollectorRegistry()),
    ):
        pass


def test_port_in_use() -> None:
    """A port in use is reported with the remedy."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with (
            pytest.raises(
                AddressError, match=f"cannot listen on {address} for metrics: Address already in use; choose"
            ),
            scrape_server(address, CollectorRegistry()),
        ):
            pass


@pytest.mark.usefixtures("each_front")
@NATIVE_FRONT
def test_images_of_all_kinds_of_calls(tiny_models: Path) -> None:
    """Images that were sent or requested are counted, in streams too; those of rejected calls are not."""
    with running_server(tiny_models, *METRICS) as server, grpc.insecure_channel(server.address) as channel:
        stub = PartedVAEServiceStub(channel)
        list(stub.StreamFeatures(iter([StreamFeaturesRequest(images=images_message(n)) for n in (3, 4)])))
        stub.TransferAttributes(TransferAttributesRequest(z_images=images_message(2), u_images=images_message(3)))
        # The deprecated fields.
        stub.TransferAttributes(TransferAttributesRequest(content=images_message(1), style_images=images_message(4)))
        stub.Traverse(TraverseRequest(prior=PriorDraw(count=2), classes_of="digit"))
        stub.Decode(decode_request(6))
        with pytest.raises(grpc.RpcError):
            stub.Generate(GenerateRequest(count=1_000_000))
        wait_until(lambda: active_calls(server) == 0)
        seen = metrics_of(server)
    assert seen['partedvae_images_total{rpc="StreamFeatures"}'] == 7
    assert seen['partedvae_images_total{rpc="TransferAttributes"}'] == 10
    assert seen['partedvae_images_total{rpc="Traverse"}'] == 2
    assert seen['partedvae_images_total{rpc="Decode"}'] == 6
    assert seen.get('partedvae_images_total{rpc="Generate"}', 0) == 0


@pytest.mark.usefixtures("each_front")
@NATIVE_FRONT
def test_workers_tell_together(tiny_models: Path) -> None:
    """The supervisor serves the metrics of all workers."""
    with running_server(tiny_models, "--workers", "2", *METRICS) as server:
        for _ in range(6):  # One connection per call, so that both workers get some.
            with grpc.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
                PartedVAEServiceStub(channel).Classify(ClassifyRequest(images=images_message(4)))
        wait_until(lambda: active_calls(server) == 0)
        seen = metrics_of(server)
    assert seen['partedvae_request_seconds_count{code="OK",rpc="Classify"}'] == 6
    assert seen['partedvae_images_total{rpc="Classify"}'] == 24
    assert seen['partedvae_batch_rows_sum{graph="encoder",model="tiny"}'] == 24
    assert seen['partedvae_queue_seconds_count{graph="encoder",model="tiny"}'] == 6
    assert seen['partedvae_execution_provider_info{model="tiny",provider="CPUExecutionProvider"}'] == 1
    assert seen['partedvae_model_served_version{model="tiny"}'] == 1
