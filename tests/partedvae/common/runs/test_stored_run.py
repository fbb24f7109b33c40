"""Reading the files of runs: finished, unfinished, of an earlier version, and damaged ones."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from partedvae.common.runs.stored_run import StoredRunError, read_run
from tests.run_files import STORED, write_run_files


def test_a_run_of_an_earlier_version_is_read_under_the_current_names() -> None:
    run = read_run(STORED)
    assert run.state == "finished"
    assert (run.epochs, run.epochs_done, run.seconds) == (2, 2, 0.2)
    assert run.config["objective.bc_threshold"] == 0.15
    assert run.config["objective.capacity_penalty"] == "absolute"
    assert run.config["model.factors.shade.classes"] == ["dim", "bright"]
    assert not {"objective.overlap_tolerance", "objective.gamma_leakage", "model.factors"} & set(run.config)
    assert run.scores == {"accuracy/corner": 0.296875, "accuracy/shade": 0.59375}
    assert run.provenance["versions"]["partedvae"] == "0.1.0"
    assert [epoch for epoch, _ in run.curve("bhattacharyya")] == [1, 2]
    assert run.curve("overlap") == []
    assert run.figures == ()


def test_scores_are_accuracies_measures_and_disentanglement(tmp_path: Path) -> None:
    changes = {"accuracy": {"corner": 0.5}, "measures": {"generation/corner": 0.75}, "disentanglement": {"mig": 0.25}}
    run = read_run(write_run_files(tmp_path / "run", summary=changes))
    assert run.scores == {"accuracy/corner": 0.5, "generation/corner": 0.75, "mig": 0.25}


def test_an_unfinished_run(tmp_path: Path) -> None:
    """The line that is being written does not count, and a run without an epoch has no metrics."""
    path = write_run_files(tmp_path / "run", finished=False, settings={"epochs": 9})
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "ste')
    run = read_run(path)
    assert (run.state, run.epochs_done, run.seconds, run.scores) == ("unfinished: epoch 2 of 9", 2, None, {})
    (path / "metrics.jsonl").unlink()
    assert (read_run(path).state, read_run(path).metrics) == ("unfinished: epoch 0 of 9", [])


def test_a_curve_leaves_out_values_that_are_no_numbers(tmp_path: Path) -> None:
    rows = ({"epoch": 1, "step": 5, "loss": math.nan}, {"epoch": 2, "step": 10, "loss": 3.5})
    run = read_run(write_run_files(tmp_path / "run", metrics=[*rows, {"epoch": 3, "step": 15}]))
    assert run.curve("loss") == [(2, 3.5)]


def test_figures_are_the_png_files_of_their_folder(tmp_path: Path) -> None:
    path = write_run_files(tmp_path / "run")
    (path / "figures").mkdir()
    for name in ("losses.png", "embedding.png", "notes.txt"):
        (path / "figures" / name).touch()
    assert read_run(path).figures == ("embedding.png", "losses.png")


def test_a_run_without_provenance_is_read(tmp_path: Path) -> None:
    path = write_run_files(tmp_path / "run")
    (path / "provenance.json").unlink()
    assert read_run(path).provenance == {}


def test_what_is_no_run_has_the_error_of_the_other_commands(tmp_path: Path) -> None:
    write_run_files(tmp_path / "mnist-default-0")
    with pytest.raises(StoredRunError) as caught:
        read_run(tmp_path / "mnist-defualt-0")
    assert "is not a run directory: config.json is missing; did you mean " in str(caught.value)
    assert "mnist-default-0'?" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "{", "config.json cannot be read: Expecting property name"),
        ("config.json", "[]", "config.json has no JSON object"),
        ("config.json", "{}", "config.json is not the configuration of a run: it has no 'objective'"),
        ("config.json", '{"objective": 1}', "config.json is not the configuration of a run: "),
        ("summary.json", "\xff", "summary.json cannot be read: "),
        ("summary.json", '{"accuracy": {"digit": "high"}}', "summary of a run: accuracy is {'digit': 'high'}"),
        ("summary.json", '{"epochs": null}', "summary.json is not the summary of a run: epochs is None"),
        ("summary.json", '{"warnings": "none"}', "summary.json is not the summary of a run: warnings is 'none'"),
        ("provenance.json", "7", "provenance.json has no JSON object"),
        ("metrics.jsonl", '{"epoch": 1, "step": 1}\n{\n', "metrics.jsonl, line 2 cannot be read: "),
        ("metrics.jsonl", '{"epoch": NaN, "step": 1}\n', "metrics.jsonl, line 1: it is not the metrics of an epoch"),
        ("metrics.jsonl", '{"epoch": 1}\n', "metrics.jsonl, line 1: it is not the metrics of an epoch"),
        ("metrics.jsonl", '{"epoch": 1, "step": 1, "loss": "3"}\n', "line 1: it is not the metrics of an epoch"),
    ],
)
def test_a_damaged_file_is_named_with_the_remedy(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = write_run_files(tmp_path / "run")
    (path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(StoredRunError) as caught:
        read_run(path)
    assert message in str(caught.value)
    assert str(path / name) in str(caught.value)
    assert str(caught.value).endswith("; restore the file, or train the run again")


def test_a_configuration_without_its_number_of_epochs(tmp_path: Path) -> None:
    path = write_run_files(tmp_path / "run", settings={"epochs": "many"})
    with pytest.raises(StoredRunError, match=r"config\.json is not the configuration of a run: epochs is 'many'; "):
        read_run(path)
    config = json.loads((path / "config.json").read_text())
    del config["epochs"]
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(StoredRunError, match="it has no 'epochs'; restore the file"):
        read_run(path)
