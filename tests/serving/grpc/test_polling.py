"""Tests of `partedvae.serving.grpc.polling`."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from partedvae.serving.grpc import polling

DISABLED = "-event_engine_poller_for_python"

# Reports the variable at the moment when grpc is imported for the first time.
PROGRAM = """
import os, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "grpc":
            sys.meta_path.remove(self)
            print("at import:", os.environ.get("GRPC_EXPERIMENTS"))
sys.meta_path.insert(0, Finder())
from partedvae.cli.main import main
main(["serve", sys.argv[1], "--address", "127.0.0.1:0"], prog_name="partedvae")
"""


@pytest.mark.parametrize("release", ["1.80.0", "1.81.1", "1.82.1"])
def test_releases_with_a_choice(monkeypatch: pytest.MonkeyPatch, release: str) -> None:
    """Where gRPC leaves the choice, the event engine does not poll."""
    monkeypatch.delenv("GRPC_EXPERIMENTS", raising=False)
    monkeypatch.setattr(polling, "version", lambda name: release)
    polling.poll_without_event_engine()
    assert os.environ["GRPC_EXPERIMENTS"] == DISABLED


@pytest.mark.parametrize("release", ["1.79.3", "1.83.0", "1.85.1", "2.0.0", "unknown"])
def test_releases_without_a_choice(monkeypatch: pytest.MonkeyPatch, release: str) -> None:
    """Other releases, which would log the name as an error, get none."""
    monkeypatch.delenv("GRPC_EXPERIMENTS", raising=False)
    monkeypatch.setattr(polling, "version", lambda name: release)
    polling.poll_without_event_engine()
    assert "GRPC_EXPERIMENTS" not in os.environ


def test_grpc_without_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gRPC that is no installed package changes nothing."""

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.delenv("GRPC_EXPERIMENTS", raising=False)
    monkeypatch.setattr(polling, "version", missing)
    polling.poll_without_event_engine()
    assert "GRPC_EXPERIMENTS" not in os.environ


def test_own_experiments_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the operator has set is not changed."""
    monkeypatch.setenv("GRPC_EXPERIMENTS", "tcp_frame_size_tuning")
    monkeypatch.setattr(polling, "version", lambda name: "1.81.1")
    polling.poll_without_event_engine()
    assert os.environ["GRPC_EXPERIMENTS"] == "tcp_frame_size_tuning"


@pytest.mark.skipif(not (1, 80) <= polling.grpc_release() < (1, 83), reason="this release of gRPC leaves no choice")
def test_command_sets_it_before_grpc_is_imported(tmp_path: Path) -> None:
    """GRPC reads the variable when it is imported, so that the command must have set it by then."""
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_EXPERIMENTS"}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert result.stdout == f"at import: {DISABLED}\n"
    assert result.returncode == 1, result.stderr  # The folder has no models.
