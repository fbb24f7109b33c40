"""`partedvae compare` of runs that were trained and evaluated, and its figure."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from partedvae.cli.compare import compare
from partedvae.cli.compare_figure import curves
from partedvae.common.fit import DEFAULT_FIT, Fit
from partedvae.common.flatten import flatten
from partedvae.common.runs.comparison import compare_runs, read_runs
from partedvae.common.runs.stored_run import read_run
from partedvae.training.data.dataset import ImageDataset, LabelUse, Truth
from partedvae.training.engine.run import train_run
from partedvae.training.evaluation.metrics import probes
from partedvae.training.reports.evaluation import evaluate_run, record_measures
from partedvae.training.runs.directory import RunDirectory
from tests.run_files import STORED, write_run_files
from tests.training.toys import tiny_config, toy_dataset


def compared(*arguments: object) -> Result:
    return CliRunner().invoke(compare, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of two runs of toys with known truth: `few` of one epoch, and `more` of two, evaluated."""
    folder = tmp_path_factory.mktemp("runs")

    def load(name: str, data_dir: Path, fit: Fit = DEFAULT_FIT, labels: LabelUse = "required") -> ImageDataset:
        dataset = toy_dataset()
        truth = Truth(images=dataset.train.images, names=("corner", "shade"), values=dataset.train.labels)
        return dataclasses.replace(dataset, truth=truth)

    with pytest.MonkeyPatch.context() as patch:
        for module in ("engine.run", "runs.data"):
            patch.setattr(f"partedvae.training.{module}.load_dataset", load)
        patch.setattr(probes, "SMALL_ITERATIONS", 20)
        for name, epochs in (("few", 1), ("more", 2)):
            torch.manual_seed(0)
            run = RunDirectory(folder / name)
            train_run(tiny_config(epochs=epochs), run, folder, "cpu", resume=False, measured=False)
        record_measures(RunDirectory(folder / "more"), evaluate_run(folder / "more", folder))
    return folder


@pytest.mark.parametrize("name", ["few", "v0.1.0"])
def test_settings_are_those_that_training_reads(runs: Path, name: str) -> None:
    """Keys that a version adds to config.json need their former value in `ADDED_CONFIG_KEYS`."""
    path = STORED if name == "v0.1.0" else runs / name
    config = json.loads(json.dumps(RunDirectory(path).load_config().to_dict()))
    factors = {factor.pop("name"): factor for factor in config["model"]["factors"]}
    config["model"]["factors"] = factors
    assert read_run(path).config == flatten(config)


def test_trained_runs(runs: Path) -> None:
    report = json.loads(compared(runs, "--json").output)
    assert report["settings"] == {"epochs": [1, 2]}
    assert report["provenance"] == {}
    summaries = [RunDirectory(runs / name).load_summary() for name in ("few", "more")]
    accuracies = [summary["accuracy"]["corner"] for summary in summaries]
    assert report["scores"]["accuracy/corner"]["values"] == accuracies
    assert report["metrics"]["test/accuracy/corner"]["values"] == accuracies
    assert [entry["train_seconds"] for entry in report["runs"]] == [s["train_seconds"] for s in summaries]


def test_evaluation_adds_measures_and_disentanglement_scores(runs: Path) -> None:
    report = json.loads(compared(runs, "--json").output)["scores"]
    for name in ("mig", "sap", "factor_vae", "factor_paper", "dci_disentanglement", "probe_u_mlp/corner"):
        absent, score = report[name]["values"]
        assert absent is None
        assert 0 <= score <= 1
        assert report[name]["better"] == "higher"
    assert report["probe_z_mlp/corner"]["better"] == "lower"


def test_curves_have_a_panel_per_metric_and_a_line_per_run(runs: Path) -> None:
    comparison = compare_runs(read_runs([runs]))
    figure = curves(comparison)
    panels = {axes.get_title(): axes for axes in figure.axes if axes.get_title()}
    assert list(panels) == comparison.curve_names
    few, more = panels["test/accuracy/corner"].lines
    assert (np.asarray(few.get_xdata()).tolist(), np.asarray(more.get_xdata()).tolist()) == ([1], [1, 2])
    assert np.asarray(more.get_ydata()).tolist() == [row["test/accuracy/corner"] for row in comparison.runs[1].metrics]
    assert few.get_color() != more.get_color()
    assert [text.get_text().strip() for text in figure.legends[0].get_texts()] == ["few", "more"]


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    """Matplotlib would parse the first as a formula, and leave out the second."""
    for name in ("$a_{b$", "_b"):
        write_run_files(tmp_path / name, metrics=[{"epoch": 1, "step": 5, "test/accuracy/$a_{b$": 0.5}])
    figure = curves(compare_runs(read_runs([tmp_path])))
    assert [text.get_text().strip() for text in figure.legends[0].get_texts()] == ["$a_{b$", "_b"]
    figure.savefig(tmp_path / "curves.png")


def test_more_runs_than_distinct_colours_have_colours_of_a_scale(tmp_path: Path) -> None:
    for number in range(12):
        write_run_files(tmp_path / f"run-{number:02}", metrics=[{"epoch": 1, "step": 5, "loss": 0.5}])
    figure = curves(compare_runs(read_runs([tmp_path])))
    assert len({str(line.get_color()) for line in figure.axes[0].lines}) == 12


def test_the_figure_is_written(runs: Path, tmp_path: Path) -> None:
    output = tmp_path / "figures" / "comparison.png"
    result = compared(runs, "--output", output)
    assert result.exit_code == 0
    assert result.output.endswith(f"curves -> {output}\n")
    with Image.open(output) as picture:
        assert picture.width == 1440
        assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 10
    assert [path.name for path in output.parent.iterdir()] == ["comparison.png"]


def test_json_is_alone_on_standard_output(tmp_path: Path) -> None:
    for seed in (1, 2):
        row = {"epoch": 1, "step": 5, "loss": 0.5}
        write_run_files(tmp_path / "runs" / str(seed), settings={"seed": seed}, metrics=[row])
    result = compared(tmp_path / "runs", "--json", "--output", tmp_path / "comparison.svg")
    assert json.loads(result.stdout)["settings"] == {"seed": [1, 2]}
    assert result.stderr == f"curves -> {tmp_path / 'comparison.svg'}\n"


def test_a_figure_that_cannot_be_drawn(runs: Path, tmp_path: Path) -> None:
    result = compared(runs, "--output", tmp_path / "comparison.xyz")
    assert result.exit_code == 2
    assert "comparison.xyz' has no suffix of a picture; use .png, .pdf or .svg" in result.output
    for name in ("a", "b"):
        write_run_files(tmp_path / name, finished=False, metrics=[])
    result = compared(tmp_path / "a", tmp_path / "b", "--output", tmp_path / "comparison.png")
    assert result.exit_code == 1
    assert "there are no curves to draw: no run has ended an epoch yet; wait, or omit --output" in result.output
    assert not (tmp_path / "comparison.png").exists()
