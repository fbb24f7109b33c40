"""Tests of `partedvae serve` as a command."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bundles import GREY
from tests.fronts import GRPCIO_FRONT, NATIVE_FRONT
from tests.processes import PATIENCE, SERVE, running_server

pytestmark = pytest.mark.slow


def serve(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *SERVE, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_help_imports_nothing_heavy() -> None:
    """The help of all commands imports neither ONNX Runtime nor Pillow nor torch."""
    program = (
        "import sys, partedvae.serving.cli;"
        "print(sorted({'onnxruntime', 'PIL', 'torch', 'grpc', 'numpy'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_serving_never_imports_torch() -> None:
    """The whole server runs where torch cannot be imported."""
    program = (
        "import sys; sys.modules['torch'] = None; sys.modules['onnx'] = None;"
        "import partedvae.serving.grpc.server, partedvae.serving.repository.repository;"
        "import partedvae.serving.operations.features; print('fine')"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr) == ("fine\n", "")


@pytest.mark.parametrize(
    "address",
    [
        "nowhere",
        "::1:5",
        *(
            pytest.param(address, marks=pytest.mark.exhaustive)
            for address in ("127.0.0.1", "127.0.0.1:99999", "127.0.0.1:http", ":50051")
        ),
    ],
)
def test_malformed_address(tiny_models: Path, address: str) -> None:
    """The error quotes a malformed address, with an example and without a traceback."""
    result = serve(tiny_models, "--address", address)
    assert result.returncode == 1
    assert f"Error: the address {address!r} is not HOST:PORT; examples: 127.0.0.1:50051" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_address_of_another_machine(tiny_models: Path) -> None:
    """An address of another machine is refused with the reason of the operating system."""
    result = serve(tiny_models, "--address", "192.0.2.1:5000")
    assert result.returncode == 1
    assert "Error: cannot listen on 192.0.2.1:5000: Cannot assign requested address" in result.stderr


@pytest.mark.usefixtures("each_front")
@GRPCIO_FRONT
def test_port_in_use(tiny_models: Path) -> None:
    """A port in use is refused with a clear error."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = serve(tiny_models, "--address", address)
    assert result.returncode == 1
    assert f"Error: cannot listen on {address}: Address already in use; choose another --address" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


@pytest.mark.usefixtures("each_front")
@NATIVE_FRONT
def test_two_servers_do_not_share_a_port(tiny_models: Path) -> None:
    """A second server on the first one's port is refused, so that it does not get a part of its requests."""
    with running_server(tiny_models) as first:
        result = serve(tiny_models, "--address", first.address)
    assert result.returncode == 1
    assert "Address already in use" in result.stderr


@pytest.mark.exhaustive
def test_missing_models(tmp_path: Path) -> None:
    """A missing folder and an empty one have different errors, each with a remedy."""
    missing, empty = serve(tmp_path / "nowhere"), serve(tmp_path)
    assert (missing.returncode, empty.returncode) == (1, 1)
    assert "nowhere is not a folder of models; export a run into it with 'partedvae export'" in missing.stderr
    assert "holds no models; export a run into it with 'partedvae export'" in empty.stderr
    assert "Traceback" not in missing.stderr + empty.stderr


def test_cuda_is_not_available(tiny_models: Path) -> None:
    """Requesting CUDA on a machine without it fails, and the error says what to install."""
    result = serve(tiny_models, "--device", "cuda")
    assert result.returncode == 1
    assert "Error: device 'cuda' is not available" in result.stderr
    assert "partedvae[gpu]" in result.stderr


@pytest.mark.usefixtures("each_front")
@GRPCIO_FRONT
@pytest.mark.parametrize("signum", [pytest.param(signal.SIGTERM, marks=pytest.mark.exhaustive), signal.SIGINT])
def test_signal_ends_it(tiny_models: Path, signum: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end it with exit code 0."""
    with running_server(tiny_models) as server:
        server.process.send_signal(signum)
        assert server.process.wait(PATIENCE) == 0
        assert "Traceback" not in server.log_file.read_text()


def test_log(tmp_path: Path) -> None:
    """The log has the provider of each model and the reason of each refusal; debug has no lines of libraries."""
    GREY.write(tmp_path / "tiny")
    (GREY.write(tmp_path / "tiny").folder / "encoder.onnx").write_bytes(b"")
    with running_server(tmp_path, "--log-level", "debug") as server:
        server.stop()
        log = server.log_file.read_text()
    assert "INFO partedvae.serving.repository.versions: loaded tiny version 1 on CPUExecutionProvider" in log
    assert "WARNING partedvae.serving.repository.versions: refused: " in log
    assert "encoder.onnx is damaged" in log
    assert all(" partedvae.serving." in line for line in log.splitlines()), log
