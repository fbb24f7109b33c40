"""Tests of `--otel` with a real server and a collector that stores the exported traces."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from partedvae.v1 import service_pb2 as pb
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub
from tests.processes import PATIENCE, running_server
from tests.serving.faults.support import images_message

pytestmark = pytest.mark.slow


class Collector(TraceServiceServicer):
    """Stores the requests of exporters."""

    def __init__(self) -> None:
        self.requests: list[Any] = []

    def Export(self, request: ExportTraceServiceRequest, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self.requests.append(request)
        return ExportTraceServiceResponse()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Return a collector; processes started by the test export to it."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(1))
    add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]  # half typed
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    yield collector
    server.stop(None)


def spans_of(collector: Collector) -> list[Any]:
    """Return all exported spans."""
    return [
        span
        for request in collector.requests
        for part in request.resource_spans
        for scope in part.scope_spans
        for span in scope.spans
    ]


def test_calls_are_traced(tiny_models: Path, collector: Collector) -> None:
    """One span per call, with method and status, in the client's trace; all are exported before the server ends."""
    trace = "0af7651916cd43dd8448eb211c80319c"
    with running_server(tiny_models, "--otel") as server:
        with grpc.insecure_channel(server.address) as channel:
            stub = PartedVAEServiceStub(channel)
            metadata = (("traceparent", f"00-{trace}-b7ad6b7169203331-01"),)
            stub.Generate(pb.GenerateRequest(count=1), metadata=metadata)
            with pytest.raises(grpc.RpcError) as caught:
                stub.Generate(pb.GenerateRequest(count=0))
            assert "a count of 0 images is out of range" in (caught.value.details() or "")
            chunk = pb.StreamFeaturesRequest(images=images_message(2))
            assert len(list(stub.StreamFeatures(iter([chunk, chunk])))) == 2
        assert server.stop() == 0
    (resource,) = {str(part.resource) for request in collector.requests for part in request.resource_spans}
    assert 'string_value: "partedvae"' in resource
    spans = spans_of(collector)
    generate, stream = (f"/partedvae.v1.PartedVAEService/{name}" for name in ("Generate", "StreamFeatures"))
    assert [span.name for span in spans] == [generate, generate, stream]
    assert spans[0].trace_id.hex() == trace
    codes = [
        attribute.value.int_value for span in spans for attribute in span.attributes if "status_code" in attribute.key
    ]
    assert codes[:2] == [0, grpc.StatusCode.INVALID_ARGUMENT.value[0]]


@pytest.mark.exhaustive
def test_denied_calls(tiny_models: Path, collector: Collector, tmp_path: Path) -> None:
    """Calls without a token are denied as without tracing, whether they stream or not; each has its span."""
    (tmp_path / "tokens").write_text("secret\n")
    with running_server(tiny_models, "--otel", "--token-file", str(tmp_path / "tokens")) as server:
        with grpc.insecure_channel(server.address) as channel:
            stub = PartedVAEServiceStub(channel)
            with pytest.raises(grpc.RpcError) as unary:
                stub.Generate(pb.GenerateRequest(count=1))
            with pytest.raises(grpc.RpcError) as streaming:
                list(stub.StreamFeatures(iter([pb.StreamFeaturesRequest(images=images_message(1))])))
        assert server.stop() == 0
        assert "Traceback" not in server.log_file.read_text()
    assert {unary.value.code(), streaming.value.code()} == {grpc.StatusCode.UNAUTHENTICATED}
    assert len(spans_of(collector)) == 2


def test_without_the_extra(tiny_models: Path) -> None:
    """Without the extra, --otel fails with the command that installs it."""
    program = (
        "import sys; sys.modules['opentelemetry.instrumentation.grpc'] = None;"
        "from partedvae.serving.cli import serve; serve(sys.argv[1:])"
    )
    command = [sys.executable, "-c", program, str(tiny_models), "--otel", "--address", "127.0.0.1:0"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert result.returncode == 1
    assert "--otel needs opentelemetry" in result.stderr
    assert "pip install 'partedvae[serve,otel]'" in result.stderr
    assert "Traceback" not in result.stderr
