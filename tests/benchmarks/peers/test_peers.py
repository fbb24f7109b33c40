"""Tests of the benchmark of other servers that do not need the peers' environments."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks.peers.processes import free_ports, running_peer
from benchmarks.peers.registry import MODEL_INFER, PEERS, Peer, infer_request, mosec_target
from benchmarks.peers.servers.common import VARIABLE, Encoder, Settings
from benchmarks.serving.load import BenchmarkError
from benchmarks.serving.requests import grpc_target
from partedvae.oip import inference_pb2 as oip
from tests.bundles import GREY
from tests.processes import ServerProcess

PROGRAM = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"four")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def settings(port: int = 1, graph: str = "encoder.onnx") -> Settings:
    return Settings(
        graph=graph,
        image=(8, 6, 1),
        outputs={"digit.probs": 10, "digit.u_mean": 3},
        cpus=1,
        port=port,
        other_ports=(2, 3, 4),
    )


def peer(program: str) -> Peer:
    """Return a peer that runs a Python program and receives the same requests as mosec."""
    return Peer(
        name="stand-in",
        package="none",
        command=lambda peer_settings: ("python", "-c", program, str(peer_settings.port)),
        target=mosec_target,
    )


@pytest.fixture
def programs() -> Path:
    """Return the `bin` folder of the running environment."""
    return Path(sys.executable).parent


def test_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer reads the settings that were passed to it."""
    passed = settings()
    monkeypatch.setitem(os.environ, VARIABLE, passed.to_environment()[VARIABLE])
    assert Settings.from_environment() == passed


def test_the_encoder_of_all_peers(tiny_models: Path) -> None:
    """The session returns the requested outputs."""
    images = GREY.random_images(3)
    encode = Encoder(settings(graph=str(tiny_models / "tiny" / "1" / "encoder.onnx")), threads=1)
    outputs = encode(images)
    assert list(outputs) == ["digit.probs", "digit.u_mean"]
    assert abs(outputs["digit.u_mean"] - GREY.encode(images)["digit.u_mean"]).max() < 1e-5


def test_the_request_of_all_peers(server: ServerProcess) -> None:
    """Our server accepts the peers' request."""
    images = GREY.random_images(2)
    message = infer_request("tiny.encoder", images.tobytes(), images.shape, ("digit.u_mean",))
    target = grpc_target(server.address, MODEL_INFER, message, 2)
    assert target.response_bytes > 2 * 3 * 4
    assert oip.ModelInferRequest.FromString(message).inputs[0].name == "images"


@pytest.mark.slow
def test_start_and_stop_of_a_peer(programs: Path) -> None:
    """The block runs once the peer responds, with its start and memory, and its process has ended afterwards."""
    (port,) = free_ports(1)
    stand_in = peer(PROGRAM)

    def probe() -> object:
        return stand_in.target(f"127.0.0.1:{port}", b"", (1, 8, 6, 1), settings(port))

    with running_peer(stand_in, programs, settings(port), probe) as running:
        assert running.address == f"127.0.0.1:{port}"
        assert running.start_seconds > 0
        assert running.resident_megabytes() > 5
        target = stand_in.target(f"127.0.0.1:{port}", b"pixels", (1, 8, 6, 1), settings(port))
        assert (target.response_bytes, target.body, target.path) == (4, b"pixels", "/inference")
    with pytest.raises(OSError, match="refused"):
        probe()


@pytest.mark.slow
def test_a_peer_that_does_not_start(programs: Path) -> None:
    """After all attempts, the error contains the end of the log."""
    (port,) = free_ports(1)
    stand_in = peer("print('no such model')")

    def probe() -> object:
        return stand_in.target(f"127.0.0.1:{port}", b"", (1, 8, 6, 1), settings(port))

    with (
        pytest.raises(BenchmarkError, match=r"stand-in: .* not respond \(exit code 0\)(.|\n)*no such model"),
        running_peer(stand_in, programs, settings(port), probe),
    ):
        pass


def test_files_of_the_peers_exist() -> None:
    """The files that the commands refer to exist."""
    for each in PEERS:
        for argument in each.command(settings()):
            assert not argument.startswith("/") or Path(argument).exists()
