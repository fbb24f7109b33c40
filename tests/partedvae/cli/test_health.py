"""Tests of `partedvae health` against a real server."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from partedvae.cli.health import health
from tests.processes import ServerProcess


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(health, arguments, env=environment)


@pytest.mark.parametrize("service", ["", "partedvae.v1.PartedVAEService"])
def test_a_server_that_answers(server: ServerProcess, service: str) -> None:
    """Exit code 0, for the whole server and for one service."""
    result = run("--server", server.address, "--service", service)
    assert (result.exit_code, result.output) == (0, "SERVING\n")


def test_options_from_the_environment(server: ServerProcess) -> None:
    """A container's health check takes the address from a variable."""
    result = run(PARTEDVAE_HEALTH_SERVER=server.address)
    assert (result.exit_code, result.output) == (0, "SERVING\n")


def test_an_unknown_service(server: ServerProcess) -> None:
    """Exit code 1 with what the server said."""
    result = run("--server", server.address, "--service", "other")
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {server.address}: NOT_FOUND, no service 'other': there are [")


def test_nobody_there() -> None:
    """Exit code 1 where nothing listens."""
    result = run("--server", "127.0.0.1:1")
    assert result.exit_code == 1
    assert result.output.startswith("Error: 127.0.0.1:1: UNAVAILABLE, ")


def test_a_certificate_without_its_key(tmp_path: Path) -> None:
    """Options that go together are asked for together."""
    (tmp_path / "cert.pem").touch()
    result = run("--tls-cert", str(tmp_path / "cert.pem"))
    assert result.exit_code == 1
    assert "a client's certificate and its key go together" in result.output
