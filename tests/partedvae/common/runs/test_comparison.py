"""Differences of runs, their notes, and the runs of folders."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from partedvae.common.runs.comparison import compare_runs, find_runs, read_runs
from partedvae.common.runs.stored_run import StoredRunError
from tests.run_files import write_run_files


def test_only_what_differs_is_listed(tmp_path: Path) -> None:
    write_run_files(tmp_path / "a", provenance={"commit": "abc"})
    write_run_files(
        tmp_path / "b", settings={"seed": 1, "objective.capacity_penalty": "hinge"}, provenance={"data": {}}
    )
    comparison = compare_runs(read_runs([tmp_path]))
    assert comparison.names == ("a", "b")
    assert {d.key: d.values for d in comparison.settings} == {
        "seed": (0, 1),
        "objective.capacity_penalty": ("absolute", "hinge"),
    }
    commit = comparison.runs[1].provenance["commit"]
    assert {d.key: d.values for d in comparison.provenance} == {"commit": ("abc", commit), "data.toys": ("drawn", None)}
    assert comparison.provenance[1].texts() == ("drawn", "–")
    assert "the files of the data differ, so that scores may be of different test images" in comparison.notes


def test_other_labelled_images_are_one_difference(tmp_path: Path) -> None:
    write_run_files(tmp_path / "a")
    write_run_files(tmp_path / "b", provenance={"labelled_images": [5, 6, 7]})
    (difference,) = compare_runs(read_runs([tmp_path])).provenance
    assert difference.key == "labelled_images"
    assert difference.values[0].startswith("40 images, SHA-256 ")
    assert difference.values[1].startswith("3 images, SHA-256 ")


def test_scores_of_runs_with_different_data_sets_have_no_best(tmp_path: Path) -> None:
    write_run_files(tmp_path / "a")
    write_run_files(tmp_path / "b", settings={"dataset": "others"}, summary={"accuracy": {"corner": 0.9}})
    comparison = compare_runs(read_runs([tmp_path]))
    assert [(s.name, s.values, s.best) for s in comparison.scores] == [
        ("accuracy/corner", (0.296875, 0.9), (False, False)),
        ("accuracy/shade", (0.59375, None), (False, False)),
    ]
    assert "the runs have different data sets, so that no value is marked as the best" in comparison.notes


def test_notes_have_intervals_of_few_images_and_warnings(tmp_path: Path) -> None:
    few = "5 of 8 (62.50%, 95% interval 31% to 86%)"
    write_run_files(tmp_path / "a", summary={"accuracy_text": {"corner": few, "shade": "98.71%"}, "warnings": []})
    write_run_files(tmp_path / "b", summary={"warnings": ["z has collapsed"]})
    assert compare_runs(read_runs([tmp_path])).notes == [f"a: accuracy of corner {few}", "b: z has collapsed"]


def test_values_that_are_no_numbers_are_null_in_json(tmp_path: Path) -> None:
    rows = [{"epoch": 1, "step": 5, "loss": math.nan, "test/accuracy/corner": 0.25}]
    write_run_files(tmp_path / "a", metrics=rows, finished=False)
    write_run_files(tmp_path / "b")
    report = json.loads(json.dumps(compare_runs(read_runs([tmp_path])).to_dict(), allow_nan=False))
    assert report["metrics"]["loss"]["values"][0] is None
    assert report["metrics"]["test/accuracy/corner"] == {
        "values": [0.25, 0.296875],
        "better": "higher",
        "best": [False, True],
    }
    assert [(run["name"], run["finished"], run["epochs_done"]) for run in report["runs"]] == [
        ("a", False, 1),
        ("b", True, 2),
    ]


def test_curves_of_test_images_are_first(tmp_path: Path) -> None:
    write_run_files(tmp_path / "a", metrics=[{"epoch": 1, "step": 5, "loss": 3.0, "test/kl_z": 1.0}])
    write_run_files(tmp_path / "b", metrics=[{"epoch": 1, "step": 5, "cycle": 3.0}])
    assert compare_runs(read_runs([tmp_path])).curve_names == ["test/kl_z", "loss", "cycle"]


def test_folders_stand_for_their_runs(tmp_path: Path) -> None:
    """Each run once, also where it is named twice; hidden folders and those in a run are left out."""
    deep = write_run_files(tmp_path / "reproduce" / "mnist" / "default" / "a-1")
    first = write_run_files(tmp_path / "a")
    write_run_files(first / "copy")
    write_run_files(tmp_path / ".trash" / "b")
    (tmp_path / "empty").mkdir()
    assert find_runs([tmp_path]) == [first, deep]
    assert find_runs([deep, tmp_path]) == [deep, first]
    assert find_runs([first, first, Path(os.path.relpath(first))]) == [first]
    assert find_runs([tmp_path / "empty"]) == [tmp_path / "empty"]


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    write_run_files(tmp_path / "x" / "run")
    write_run_files(tmp_path / "y" / "run")
    assert compare_runs(read_runs([tmp_path])).names == ("x/run", "y/run")


def test_one_run_is_not_compared(tmp_path: Path) -> None:
    path = write_run_files(tmp_path / "a")
    with pytest.raises(StoredRunError, match="a comparison needs at least two runs, and got only "):
        compare_runs(read_runs([path, path]))
