"""Tests of the commands of `make attack` and `make fuzz`, with a real server of a tiny model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.attack.__main__ import main
from benchmarks.attack.registry import ATTACKS
from tests.bundles import GREY

ROOT = Path(__file__).parents[3]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Return a folder with the model `tiny`."""
    GREY.write(tmp_path / "models" / "tiny")
    return tmp_path / "models"


def run(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command of the benchmarks."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_attacks_are_listed() -> None:
    lines = CliRunner().invoke(main, ["--list"]).output.splitlines()
    assert [line.split()[0] for line in lines] == list(ATTACKS)


def test_an_unknown_attack_is_refused_with_the_nearest() -> None:
    result = CliRunner().invoke(main, ["ping-flod"])
    assert result.exit_code == 2
    assert "no attack is called 'ping-flod'; did you mean 'ping-flood'?" in result.output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("front", "section"),
    [pytest.param("grpcio", "attack", marks=pytest.mark.exhaustive), ("native", "attack-native")],
)
def test_an_attack_that_holds(front: str, section: str, models: Path, tmp_path: Path) -> None:
    """The table, the JSON and the document have the attack, each front in its section, and the exit code is 0."""
    document, output = tmp_path / "guide.md", tmp_path / "new" / "attack.json"
    document.write_text(f"# Guide\n\n<!-- {section}:begin -->\n<!-- {section}:end -->\n")
    options = ("--models", models, "--name", "tiny", "--front", front, "--seconds", 1, "--p99-ms", 60_000)
    done = run("attack", "unknown-methods", *options, "--output", output, "--document", document)
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(output.read_text())
    assert (report["front"], report["attack"]) == (front, "unknown-methods")
    assert report["problems"] == []
    assert report["outcomes"]["UNIMPLEMENTED"] > 0
    assert 0 < report["idle_mib"] <= report["peak_mib"] < report["bound_mib"]
    assert report["during"]["failures"] == 0
    assert report["during"]["calls"] > 5
    assert "1 of 1 attacks held" in done.stdout
    assert done.stdout.strip() in document.read_text()


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_server_above_the_ceiling_is_killed_and_reported(models: Path) -> None:
    """No server runs in 16 MiB: it is killed during the attack, and the exit code is 1."""
    done = run("attack", "unknown-methods", "--models", models, "--name", "tiny", "--seconds", 1, "--ceiling-mb", 16)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "was killed at the ceiling of memory" in done.stdout
    assert "0 of 1 attacks held" in done.stdout


@pytest.mark.slow
def test_a_checkout_that_cannot_serve_is_an_error(models: Path, tmp_path: Path) -> None:
    """An empty folder has no server; the message names it and the option."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'No module named partedvae' >&2\nexit 1\n")
    python.chmod(0o755)
    options = ("--models", models, "--name", "tiny", "--checkout", ROOT, "--python", python)
    done = run("attack", "refused-large", *options)
    assert done.returncode == 1
    assert f"cannot run `partedvae serve` of {ROOT}: No module named partedvae" in done.stderr
    assert "--python" in done.stderr


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_fuzzer_reports_each_method(models: Path, tmp_path: Path) -> None:
    """It counts as many statuses as it sent requests, and names each fault that it finds."""
    output = tmp_path / "fuzz.json"
    done = run("attack.fuzz", "--models", models, "--name", "tiny", "--requests", 500, "--output", output)
    result = json.loads(output.read_text())
    assert sum(sum(row.values()) for row in result["statuses"].values()) == 500
    assert "/partedvae.v1.PartedVAEService/Classify" in result["statuses"]
    assert done.returncode == bool(result["problems"])
    assert all(problem in done.stderr for problem in result["problems"])
    assert "500 requests in" in done.stdout
