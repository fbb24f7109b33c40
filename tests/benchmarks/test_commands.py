"""Tests of the benchmarks' commands."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from partedvae.training.data.dataset import ImageDataset

ROOT = Path(__file__).parents[2]


def run(module: str, *arguments: object) -> str:
    """Run a benchmark's command, which must succeed, and return its standard output."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* found in sys.modules after import of package:RuntimeWarning")  # by other tests
@pytest.mark.parametrize(
    "module", ["attack", "attack.fuzz", "explore", "extract", "peers", "serving", "serving.coalescing", "training"]
)
def test_help(module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every benchmark is a module that describes its options."""
    monkeypatch.setattr(sys, "argv", [f"{module}.py", "--help"])
    with pytest.raises(SystemExit, match=r"^0$"):
        runpy.run_module(f"benchmarks.{module}", run_name="__main__", alter_sys=True)
    output = capsys.readouterr().out
    assert output.startswith(f"Usage: python -m benchmarks.{module} [OPTIONS]")
    assert "--output PATH" in output


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_training_benchmark(mnist: ImageDataset, data_dir: Path, tmp_path: Path) -> None:
    """It writes the throughput of each MNIST recipe to JSON, and prints the same."""
    output = tmp_path / "new" / "training.json"
    printed = run("training", "--output", output, "--data", data_dir, "--device", "cpu", "--steps", 2)
    result = json.loads(output.read_text(encoding="utf-8"))
    assert result == json.loads(printed)
    assert result["device"] == "cpu"
    assert set(result["recipes"]) == {"default", "paper"}
    for recipe in result["recipes"].values():
        assert recipe["batch_size"] > 0
        assert recipe["images_per_second"] > 0
