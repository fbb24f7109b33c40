"""Experiments run, are kept, are not repeated, and become tables."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from click.testing import CliRunner

from partedvae.training.cli.reproduce import reproduce
from partedvae.training.data.dataset import ImageDataset
from partedvae.training.reproduce.experiments import (
    EXPERIMENTS,
    Experiment,
    Row,
    accuracies,
    accuracies_and_probes,
    experiment,
)
from partedvae.training.reproduce.results import Result, keep_result, load_results, table, write_page
from partedvae.training.reproduce.runner import Plan, configure, run_experiment

SMALL = ("train_images=640", "epochs=1", "supervision.warm_start_steps=0")


def result(seed: int, score: float, row: str = "100 labels") -> Result:
    return Result(
        experiment="table2",
        row=row,
        budget="short",
        seed=seed,
        labels=100,
        epochs=3,
        train_seconds=60.4,
        data="drawn",
        measures={"factor_paper": score},
        command="partedvae reproduce table2",
        commit="0123456789abcdef",
        date="2026-01-02",
        config={},
    )


def test_a_table_has_a_line_a_run_and_the_mean_of_all_seeds() -> None:
    text = table(EXPERIMENTS["table2"], [result(1, 0.7), result(0, 0.6), result(0, 0.5, "737 labels")])
    lines = text.splitlines()
    assert lines[0] == "|  | paper | labels | seed | factor_paper | epochs | seconds | data | commit | date |"
    assert lines[2] == "| 100 labels | 0.626 ± 0.04 | 100 | 0 | 0.600 | 3 | 60 | drawn | 012345678 | 2026-01-02 |"
    assert lines[3].startswith("| 100 labels | 0.626 ± 0.04 | 100 | 1 | 0.700 |")
    assert lines[4] == "| **100 labels** | 0.626 ± 0.04 |  | mean of 2 | **0.650 ± 0.071** |  |  |  |  |  |"
    assert lines[5].startswith("| 737 labels | 0.718 ± 0.03 | 100 | 0 | 0.500 |")
    assert len(lines) == 6


def test_a_result_takes_the_place_of_an_earlier_one_of_the_same_run(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    keep_result(path, result(0, 0.1))
    keep_result(path, result(1, 0.2))
    kept = keep_result(path, result(0, 0.3))
    assert load_results(path) == kept
    assert [(r.seed, r.measures["factor_paper"]) for r in kept] == [(1, 0.2), (0, 0.3)]


def test_the_page_has_every_experiment_run_or_not(tmp_path: Path) -> None:
    write_page(tmp_path / "RESULTS.md", [result(0, 0.6)])
    text = (tmp_path / "RESULTS.md").read_text()
    for described in EXPERIMENTS.values():
        assert f"## {described.title}" in text
    assert "`partedvae reproduce table2 --budget short --seeds 0`" in text
    assert "Not run here yet: `partedvae reproduce table1`." in text


def test_rows_become_configurations(tmp_path: Path) -> None:
    ablation = EXPERIMENTS["bc-ablation"].rows[1]
    config = configure(ablation, 3, "full", tmp_path)
    assert (config.recipe, config.labels, config.seed, config.objective.gamma_bc) == ("paper", 3686, 3, 0.0)
    vae = configure(EXPERIMENTS["table1"].rows[0], 0, "short", tmp_path)
    assert (vae.method, vae.labels, vae.model.z_dim, vae.model.factors) == ("vae", 0, 6, ())
    for described in EXPERIMENTS.values():
        for row in described.rows:
            configure(row, 0, "short", tmp_path)


def test_without_labels_the_rate_is_the_papers(tmp_path: Path) -> None:
    """At 1e-3 the network of dSprites died."""
    for row in EXPERIMENTS["table1"].rows:
        assert configure(row, 0, "short", tmp_path).optimiser.learning_rate == 5e-4
    assert configure(EXPERIMENTS["table2"].rows[0], 0, "short", tmp_path).optimiser.learning_rate == 1e-3


@pytest.mark.slow
def test_an_experiment_trains_measures_keeps_and_is_not_run_again(
    tmp_path: Path, mnist: ImageDataset, data_dir: Path
) -> None:
    rows = (
        Row(name="PartedVAE", dataset="mnist", labels=64, settings=SMALL, paper={"accuracy digit": "0.95"}),
        Row(name="labels alone", dataset="mnist", labels=64, method="classifier", settings=SMALL),
    )
    described = Experiment(title="A small one", rows=rows, measure=accuracies_and_probes)
    plan = Plan(
        budget="short",
        seeds=(0,),
        data_dir=data_dir,
        runs_dir=tmp_path / "runs",
        results_file=tmp_path / "docs" / "results.json",
        device="cpu",
    )
    first = run_experiment("mnist-classifier", described, plan)
    assert "| PartedVAE | 0.95 | 64 | 0 |" in first
    kept = load_results(plan.results_file)
    assert [r.row for r in kept] == ["PartedVAE", "labels alone"]
    assert set(kept[0].measures) == {"accuracy digit", "digit off u", "digit off z"}
    assert (tmp_path / "runs" / "mnist-classifier" / "short" / "labels-alone-0" / "summary.json").exists()
    before = [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("checkpoint.pt"))]
    assert run_experiment("mnist-classifier", described, plan) == first
    assert [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("checkpoint.pt"))] == before
    # Another experiment with a line of the same configuration has no training of its own.
    shared = Experiment(title="Another", rows=(dataclasses.replace(rows[0], name="shared"),), measure=accuracies)
    assert "| shared | 0.95 | 64 | 0 |" in run_experiment("figures", shared, plan)
    assert not (tmp_path / "runs" / "figures").exists()
    assert load_results(plan.results_file)[2].measures == {"accuracy digit": kept[0].measures["accuracy digit"]}
    # A recipe that has changed makes a run of its own, and its result takes the other's place.
    settings = (*SMALL, "objective.gamma_bc=7")
    changed = dataclasses.replace(described, rows=(dataclasses.replace(rows[0], settings=settings), rows[1]))
    run_experiment("mnist-classifier", changed, plan)
    again = load_results(plan.results_file)
    weights = [(r.row, r.config["objective"]["gamma_bc"]) for r in again]
    assert weights == [("labels alone", 30.0), ("shared", 30.0), ("PartedVAE", 7.0)]
    runs = sorted(path.name for path in (tmp_path / "runs" / "mnist-classifier" / "short").iterdir())
    assert runs == ["labels-alone-0", "partedvae-0", "partedvae-0-2"]


def test_what_is_no_file_of_results_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text('[{"a": 1}]')
    with pytest.raises(ValueError, match=r"other.json holds no results of 'partedvae reproduce'"):
        load_results(path)
    done = CliRunner().invoke(reproduce, ["table1", "--results", str(path), "--data", str(tmp_path)])
    assert done.exit_code == 1
    assert "move it away" in done.output
    assert [entry.name for entry in tmp_path.iterdir()] == ["other.json"]


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["tabel1"], "no experiment is called 'tabel1'; did you mean 'table1'?", 1),
        (["table1", "--seeds", "a,b"], "'a,b' is not whole numbers with commas between", 2),
        (["table1", "--budget", "huge"], "'huge' is not one of 'short', 'full'", 2),
    ],
)
def test_reproduce_refuses_what_it_does_not_know(arguments: list[str], message: str, code: int) -> None:
    done = CliRunner().invoke(reproduce, arguments)
    assert done.exit_code == code
    assert message in done.output
    with pytest.raises(ValueError, match="no experiment is called"):
        experiment("table9")
