"""Tests of `--front`: what is chosen, and what is refused."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from partedvae import Client
from partedvae.serving.config.serve_config import ServeConfig
from partedvae.serving.errors import ConfigError
from partedvae.serving.grpc import front as module
from partedvae.serving.grpc.front import chosen_front
from tests.processes import PATIENCE, SERVE, running_server, workers_of

TLS = {"tls_cert": Path("server.pem"), "tls_key": Path("server.key")}


def config(**values: Any) -> ServeConfig:
    return ServeConfig(models_dir=Path("models"), **values)


@pytest.fixture
def without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == module.PACKAGE else find_spec(name))


@pytest.mark.parametrize(
    ("values", "chosen", "text"),
    [
        ({}, "grpcio", ""),
        ({"front": "grpcio", "otel": True}, "grpcio", ""),
        ({"front": "native"}, "native", ""),
        ({"front": "auto"}, "native", "using the front native"),
        ({"front": "auto", **TLS}, "grpcio", "using the front grpcio: the native one cannot do TLS"),
        (
            {"front": "auto", "otel": True, **TLS},
            "grpcio",
            "using the front grpcio: the native one cannot do TLS and tracing (--otel)",
        ),
    ],
    ids=["default", "grpcio", "native", "auto", "auto with TLS", "auto with both"],
)
def test_what_is_chosen(values: dict[str, Any], chosen: str, text: str, caplog: pytest.LogCaptureFixture) -> None:
    """The log says what `auto` has taken, and why not the other one."""
    with caplog.at_level(logging.INFO):
        assert chosen_front(config(**values)) == chosen
    assert [record.getMessage() for record in caplog.records] == [text] * bool(text)


@pytest.mark.usefixtures("without_the_package")
def test_the_package_is_not_installed(caplog: pytest.LogCaptureFixture) -> None:
    """`native` is an error with the remedy; `auto` uses gRPC's server, and the log says why."""
    with pytest.raises(ConfigError, match=r"--front native needs .* pip install 'partedvae\[serve,native\]'"):
        chosen_front(config(front="native"))
    with caplog.at_level(logging.INFO):
        assert chosen_front(config(front="auto")) == "grpcio"
    assert "using the front grpcio: the extra native is not installed" in caplog.text


@pytest.mark.parametrize(
    ("values", "obstacles"),
    [(TLS, "TLS"), ({"otel": True}, r"tracing \(--otel\)"), ({**TLS, "otel": True}, r"TLS and tracing \(--otel\)")],
    ids=["TLS", "tracing", "both"],
)
def test_what_the_native_front_cannot_do(values: dict[str, Any], obstacles: str) -> None:
    with pytest.raises(ConfigError, match=f"^--front native cannot do {obstacles}; choose --front grpcio"):
        config(front="native", **values)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--front", "fast"), 2, "'fast' is not one of 'auto', 'native', 'grpcio'"),
        (("--front", "native", "--otel"), 1, "Error: --front native cannot do tracing (--otel)"),
    ],
    ids=["name", "tracing"],
)
def test_bad_options(tiny_models: Path, options: tuple[str, ...], code: int, message: str) -> None:
    result = serve(tiny_models, *options)
    assert result.returncode == code, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("front", "taken"), [("grpcio", "grpcio"), ("native", "native"), ("auto", "native")])
def test_clients_see_what_is_taken(tiny_models: Path, front: str, taken: str) -> None:
    with running_server(tiny_models, "--front", front) as server, Client(server.address) as client:
        assert client.model_info().front == taken
        assert ("using the front native" in server.log_file.read_text()) == (front == "auto")


@pytest.mark.exhaustive
@pytest.mark.slow
def test_two_workers_share_a_port(tiny_models: Path) -> None:
    """They serve all connections, and end with the server; a second server is refused."""
    with running_server(tiny_models, "--front", "native", "--workers", "2") as server:
        assert len(workers_of(server)) == 2
        for _ in range(8):
            with Client(server.address) as client:
                assert client.model_info().front == "native"
        options = ("--front", "native", "--workers", "2", "--address", server.address)
        result = serve(tiny_models, *options)
        assert result.returncode == 1
        assert f"Error: cannot listen on {server.address}: Address already in use" in result.stderr


@pytest.mark.slow
def test_the_socket_cannot_be_made(tiny_models: Path, tmp_path: Path) -> None:
    """The path of a Unix socket is bounded, and that of a temporary folder is not."""
    folder = tmp_path / ("t" * 100)
    folder.mkdir()
    options = ("--front", "native", "--address", "127.0.0.1:0")
    result = serve(tiny_models, *options, variables={"TMPDIR": str(folder)})
    assert result.returncode == 1
    assert "Error: --front native needs a Unix socket in the temporary folder, which cannot be made" in result.stderr
    assert "set TMPDIR to a folder that can be written to" in result.stderr
    assert "Traceback" not in result.stderr
    assert list(folder.iterdir()) == []


def serve(
    models: Path, *options: str, variables: Mapping[str, str] = MappingProxyType({})
) -> subprocess.CompletedProcess[str]:
    """Run a server that does not start."""
    command = [sys.executable, *SERVE, str(models), *options]
    environment = {**os.environ, **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
