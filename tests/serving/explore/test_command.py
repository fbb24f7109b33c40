"""Tests of the command `explore`: its options, their errors, and how it ends."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from partedvae.serving.explore.command import explore
from tests.serving.explore.explorer import running_explorer

pytestmark = pytest.mark.slow


def error_of(*options: str | Path) -> tuple[int, str]:
    """Run the command, which must fail, and return its exit code and output."""
    result = CliRunner().invoke(explore, list(map(str, options)))
    assert isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_something_to_explore_is_required() -> None:
    code, output = error_of("--data", ".")
    assert code == 2
    assert "--server HOST:PORT, --features FILE, --runs FOLDER or --label FOLDER" in " ".join(output.split())


def test_options_that_exclude_each_other(tiny_models: Path) -> None:
    model = tiny_models / "tiny"
    assert "--model and --server exclude each other" in error_of("--model", model, "--server", "localhost:1")[1]
    assert "--model-name requires --server" in error_of("--model", model, "--model-name", "tiny")[1]
    assert "--suggestions requires --label FOLDER" in error_of("--model", model, "--suggestions", __file__)[1]


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    code, output = error_of("--model", tmp_path, "--address", "127.0.0.1:0")
    assert code == 1
    assert str(tmp_path) in output


@pytest.mark.parametrize("address", ["8080", "localhost", "127.0.0.1:99999"])
def test_addresses_that_are_malformed(tmp_path: Path, address: str) -> None:
    code, output = error_of("--runs", tmp_path, "--address", address)
    assert code == 1
    assert f"the address '{address}' is not HOST:PORT" in output


def test_an_address_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        code, output = error_of("--runs", tmp_path, "--address", address)
    assert code == 1
    assert f"cannot listen on {address}: Address already in use; choose another --address" in output


def test_a_token_file_without_a_token(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("\n")
    code, output = error_of("--runs", tmp_path, "--access-token-file", tmp_path / "tokens", "--address", "127.0.0.1:0")
    assert code == 1
    assert "tokens contains no token" in output


@pytest.mark.exhaustive
def test_ctrl_c_ends_it_and_nothing_is_written(tmp_path: Path) -> None:
    """With exit code 0, and the current folder as it was."""
    (tmp_path / "here").mkdir()
    with running_explorer("--runs", tmp_path, folder=tmp_path / "here") as explorer:
        assert explorer.stop(signal.SIGINT) == 0
    assert list((tmp_path / "here").iterdir()) == []
