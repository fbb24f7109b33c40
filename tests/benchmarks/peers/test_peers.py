"""Tests of the comparison with other servers, as far as they go without the peers' environments."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.peers.processes import free_ports, running
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
    """Return a peer that runs a program of Python and is asked like mosec."""
    return Peer(
        name="stand-in",
        package="none",
        command=lambda told: ("python", "-c", program, str(told.port)),
        target=mosec_target,
    )


@pytest.fixture
def programs() -> Path:
    """Return the folder of this environment's Python."""
    import sys

    return Path(sys.executable).parent


def test_settings_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer reads what it was told."""
    told = settings()
    monkeypatch.setitem(os.environ, VARIABLE, told.to_environment()[VARIABLE])
    assert Settings.from_environment() == told


def test_the_encoder_of_all_peers(tiny_models: Path) -> None:
    """It gives the outputs that are asked for."""
    images = GREY.random_images(3)
    encode = Encoder(settings(graph=str(tiny_models / "tiny" / "1" / "encoder.onnx")), threads=1)
    outputs = encode(images)
    assert list(outputs) == ["digit.probs", "digit.u_mean"]
    assert abs(outputs["digit.u_mean"] - GREY.encode(images)["digit.u_mean"]).max() < 1e-5


def test_the_request_of_all_peers(server: ServerProcess) -> None:
    """Ours answers it as well."""
    images = GREY.random_images(2)
    message = infer_request("tiny.encoder", images.tobytes(), images.shape, ("digit.u_mean",))
    target = grpc_target(server.address, MODEL_INFER, message, 2)
    assert target.answer_bytes > 2 * 3 * 4
    assert oip.ModelInferRequest.FromString(message).inputs[0].name == "images"


def test_a_peer_is_started_and_ended(programs: Path) -> None:
    """It is asked until it answers, and its process is gone afterwards."""
    (port,) = free_ports(1)
    stand_in = peer(PROGRAM)

    def ask() -> object:
        return stand_in.target(f"127.0.0.1:{port}", b"", (1, 8, 6, 1), settings(port))

    with running(stand_in, programs, settings(port), ask):
        target = stand_in.target(f"127.0.0.1:{port}", b"pixels", (1, 8, 6, 1), settings(port))
        assert (target.answer_bytes, target.body, target.path) == (4, b"pixels", "/inference")
    with pytest.raises(OSError, match="refused"):
        ask()


def test_a_peer_that_does_not_start(programs: Path) -> None:
    """The end of its log is told, after as many attempts as it gets."""
    (port,) = free_ports(1)
    stand_in = peer("print('no such model')")

    def ask() -> object:
        return stand_in.target(f"127.0.0.1:{port}", b"", (1, 8, 6, 1), settings(port))

    with (
        pytest.raises(BenchmarkError, match=r"stand-in: no answer came \(exit code 0\)(.|\n)*no such model"),
        running(stand_in, programs, settings(port), ask),
    ):
        pass


def test_files_of_the_peers_exist() -> None:
    """What the commands start is there."""
    for each in PEERS:
        for argument in each.command(settings()):
            assert not argument.startswith("/") or Path(argument).exists()
