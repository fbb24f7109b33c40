"""Suggestions for paths that are no run directories."""

from __future__ import annotations

from pathlib import Path

import pytest
from click import Command
from click.testing import CliRunner

from partedvae.common.runs.nearby import runs_in
from partedvae.training.cli.describe import describe
from partedvae.training.cli.evaluate import evaluate
from partedvae.training.cli.figures import figures
from partedvae.training.runs.directory import RunDirectory, RunError

START = "is not a run directory: config.json is missing; "


@pytest.fixture(autouse=True)
def _runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make two run directories, and work beside them."""
    monkeypatch.chdir(tmp_path)
    for name in ("mnist-default-0", "photos-default-0"):
        (Path("runs") / name / "figures").mkdir(parents=True)
        (Path("runs") / name / "config.json").write_text("{}")
    Path("models/mnist/1").mkdir(parents=True)
    Path("models/mnist/1/manifest.json").write_text("{}")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("runs", "it holds the runs mnist-default-0, photos-default-0; pass one of them, such as runs/mnist-default-0"),
        ("runs/", "it holds the runs mnist-default-0, photos-default-0; pass one of them"),
        ("runs/mnist-default-0/config.json", "it is a part of one; did you mean 'runs/mnist-default-0'?"),
        ("runs/mnist-default-0/figures", "it is a part of one; did you mean 'runs/mnist-default-0'?"),
        ("runs/mnist-defualt-0", "did you mean 'runs/mnist-default-0'?"),
        ("photos-default-0", "did you mean 'runs/photos-default-0'?"),
        ("photos", "did you mean 'runs/photos-default-0'?"),
        ("models/mnist", "it is an exported model; pass the run that it was exported from"),
        ("models/mnist/1", "it is an exported model; pass the run that it was exported from"),
        ("nothing-alike", "train one with 'partedvae train'"),
        (".", "train one with 'partedvae train'"),
    ],
)
def test_the_run_that_was_meant(path: str, message: str) -> None:
    with pytest.raises(RunError) as caught:
        RunDirectory(Path(path)).load_config()
    assert START + message in str(caught.value)


@pytest.mark.parametrize("command", [evaluate, figures, describe], ids=lambda command: str(command.name))
def test_commands_of_a_run(command: Command) -> None:
    """Each of them names the runs of a folder that is given instead of one."""
    result = CliRunner().invoke(command, ["runs"])
    assert result.exit_code == 1
    assert f"Error: runs {START}it holds the runs mnist-default-0, photos-default-0" in result.output


def test_what_is_no_run_is_left_out() -> None:
    (Path("runs") / "notes.txt").touch()
    (Path("runs") / "empty").mkdir()
    assert [run.name for run in runs_in(Path("runs"))] == ["mnist-default-0", "photos-default-0"]
    assert runs_in(Path("nowhere")) == runs_in(Path("runs") / "notes.txt") == []
