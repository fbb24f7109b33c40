"""`partedvae health` against a real server."""

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
    """The health check of a container reads the address from a variable."""
    result = run(PARTEDVAE_HEALTH_SERVER=server.address)
    assert (result.exit_code, result.output) == (0, "SERVING\n")


def test_an_unknown_service(server: ServerProcess) -> None:
    """Exit code 1 and the message of the server."""
    result = run("--server", server.address, "--service", "other")
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {server.address}: NOT_FOUND, no service 'other'; choose from [")


def test_no_server() -> None:
    """Exit code 1 and the status of gRPC."""
    result = run("--server", "127.0.0.1:1")
    assert result.exit_code == 1
    assert result.output.startswith("Error: 127.0.0.1:1: UNAVAILABLE, ")


def test_a_certificate_without_its_key(tmp_path: Path) -> None:
    """Exit code 1 and the missing option."""
    (tmp_path / "cert.pem").touch()
    result = run("--tls-cert", str(tmp_path / "cert.pem"))
    assert result.exit_code == 1
    assert result.output == (
        "Error: a client certificate needs its key: pass both --tls-cert and --tls-key, or neither\n"
    )


@pytest.mark.parametrize("value", ["nan", "inf", "0", "-1"])
def test_a_timeout_that_never_ends(value: str) -> None:
    """Exit code 2, on the command line and from the environment."""
    for result in (run("--timeout", value), run(PARTEDVAE_HEALTH_TIMEOUT=value), run(PARTEDVAE_TIMEOUT=value)):
        assert result.exit_code == 2
        assert "Invalid value for '--timeout'" in result.output
