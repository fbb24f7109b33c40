"""The command `partedvae compare` on files of runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from partedvae.cli.compare import compare
from tests.partedvae.test_package import loaded_after
from tests.run_files import write_run_files

FEW = {"accuracy": {"corner": 0.9, "shade": 0.5}, "measures": {"generation/corner": 0.8, "generation/corner/dim": 0.7}}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(compare, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of a finished run `a`, a better one, `b`, and an unfinished one, `c`."""
    write_run_files(tmp_path / "runs" / "a")
    write_run_files(tmp_path / "runs" / "b", settings={"seed": 1}, summary=FEW)
    write_run_files(tmp_path / "runs" / "c", settings={"epochs": 9}, finished=False)
    return tmp_path / "runs"


def cells(output: str) -> dict[str, list[str]]:
    """Return the cells of the lines of all tables by the first one."""
    return {line.split()[0]: line.split()[1:] for line in output.splitlines() if line}


def test_tables(folder: Path) -> None:
    result = run(folder)
    assert result.exit_code == 0
    found = cells(result.output)
    assert found["seed"] == ["0", "1", "0"]
    assert found["epochs"] == ["2", "2", "9"]
    assert found["accuracy/corner"] == ["29.69%", "90.00%", "*", "–"]
    assert found["accuracy/shade"] == ["59.38%", "*", "50.00%", "–"]
    assert found["generation/corner"] == ["–", "80.00%", "–"]
    assert found["test/accuracy/corner"] == ["29.69%"] * 3
    assert found["c"][:5] == ["unfinished:", "epoch", "2", "of", "9"]
    assert "generation/corner/dim" not in found
    assert "gamma_bc" not in result.output


def test_scores_of_classes_are_printed_on_request(folder: Path) -> None:
    assert cells(run(folder, "--all").output)["generation/corner/dim"] == ["–", "70.00%", "–"]


def test_runs_without_a_difference(tmp_path: Path) -> None:
    result = run(write_run_files(tmp_path / "a"), write_run_files(tmp_path / "b"))
    assert "all settings are the same" in result.output
    assert "SETTING" not in result.output
    assert "*" not in result.output


def test_json(folder: Path) -> None:
    report = json.loads(run(folder, "--json").output)
    assert report["settings"] == {"seed": [0, 1, 0], "epochs": [2, 2, 9]}
    assert report["scores"]["accuracy/corner"] == {
        "values": [0.296875, 0.9, None],
        "better": "higher",
        "best": [False, True, False],
    }
    assert [Path(run["path"]).name for run in report["runs"]] == ["a", "b", "c"]


def test_long_values_are_cut_and_control_characters_escaped(tmp_path: Path) -> None:
    write_run_files(tmp_path / "a\x1b[31m", settings={"dataset": "folder:" + "x" * 50})
    write_run_files(tmp_path / "b")
    output = run(tmp_path).output
    assert "a\\x1b[31m" in output
    assert f"folder:{'x' * 32}…" in output
    assert "\x1b" not in output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "Missing argument 'RUN...'"),
        (["runs/a"], 1, "a comparison needs at least two runs, and got only runs/a; give more run directories"),
        (["runs/a", "runs/d"], 1, "runs/d is not a run directory: config.json is missing; "),
        (["runs/a", "empty"], 1, "empty is not a run directory: config.json is missing; "),
        (["runs/a", "s3://bucket/run"], 2, "is a URL, and partedvae reads and writes local paths"),
        (["runs/a", "broken"], 1, "broken/summary.json cannot be read: "),
    ],
)
def test_errors(folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, message: str) -> None:
    monkeypatch.chdir(folder.parent)
    Path("empty").mkdir()
    (write_run_files(Path("broken")) / "summary.json").write_text("{")
    result = run(*arguments)
    assert result.exit_code == code
    assert message in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_tables_need_nothing_heavy(folder: Path) -> None:
    """Neither PyTorch nor Matplotlib, so that they are there at once."""
    program = f"from partedvae.cli.compare import compare; compare([{str(folder)!r}], standalone_mode=False)"
    assert loaded_after(f"import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()): {program}") == set()
