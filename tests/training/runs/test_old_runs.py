"""A run of version 0.1.0, with the names of that version, is read, reported, drawn and resumed."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from partedvae.common.fit import Fit
from partedvae.common.flatten import flatten
from partedvae.common.runs.stored_run import read_metrics
from partedvae.training.cli.train import train
from partedvae.training.data.dataset import ImageDataset, LabelUse
from partedvae.training.engine.run import train_run
from partedvae.training.evaluation.metrics import probes
from partedvae.training.figures.registry import FIGURES, draw_run
from partedvae.training.model.networks import preprocess
from partedvae.training.reports.evaluation import evaluate_run
from partedvae.training.runs.directory import RunDirectory, RunError
from tests.training.toys import toy_dataset

FIXTURE = Path(__file__).parents[2] / "fixtures" / "v0.1.0"
RUN = FIXTURE / "run"


@pytest.fixture
def finished(tmp_path: Path) -> RunDirectory:
    """Return a copy of the run."""
    return RunDirectory(Path(shutil.copytree(RUN, tmp_path / "run")))


@pytest.fixture
def stopped(finished: RunDirectory) -> RunDirectory:
    """Return the run as if it had been stopped after two of three epochs."""
    finished.summary_file.unlink()
    config = json.loads(finished.config_file.read_text())
    finished.config_file.write_text(json.dumps(config | {"epochs": 3}))
    return finished


@pytest.fixture
def _toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load the toy data set under every name."""

    def load(name: str, data_dir: Path, fit: Fit, labels: LabelUse = "required") -> ImageDataset:
        assert fit == "stretch"
        return toy_dataset()

    for module in ("engine.run", "runs.data"):
        monkeypatch.setattr(f"partedvae.training.{module}.load_dataset", load)
    monkeypatch.setattr(probes, "SMALL_ITERATIONS", 20)


def test_the_configuration_is_read_under_the_current_keys() -> None:
    """Fields of later versions have their defaults, and removed ones are ignored."""
    stored = json.loads((RUN / "config.json").read_text())
    assert "overlap_tolerance" in stored["objective"]
    config = RunDirectory(RUN).load_config()
    assert config.objective.bc_threshold == 0.15
    stored["objective"]["bc_threshold"] = stored["objective"].pop("overlap_tolerance")
    assert stored["objective"].pop("gamma_leakage") == 0
    current = flatten(json.loads(json.dumps(config.to_dict())))
    assert {key: current[key] for key in flatten(stored)} == flatten(stored)


def test_metrics_are_read_under_the_current_names() -> None:
    stored = [json.loads(line) for line in (RUN / "metrics.jsonl").read_text().splitlines()]
    rows = read_metrics(RunDirectory(RUN).metrics_file)
    assert [row["kl_c"] for row in rows] == [row["prior_mismatch"] for row in stored]
    assert [row["bhattacharyya"] for row in rows] == [row["overlap"] for row in stored]
    assert not {"prior_mismatch", "overlap"} & set(rows[0])
    assert rows[1]["kl_u"] == stored[1]["kl_u"]


def test_the_encoder_of_the_model_gives_the_features_of_that_version() -> None:
    run = RunDirectory(RUN)
    config = run.load_config()
    model, _ = run.load_model(torch.device("cpu"))
    with np.load(FIXTURE / "features.npz") as features:
        expected = dict(features)
    pixels = preprocess(torch.from_numpy(expected["images"]), config.model.network_size)
    with torch.no_grad():
        posterior = model.encode(pixels, slope=config.schedule.attention_slope)
    actual = {"z": posterior.z.mean}
    for factor, q in zip(config.model.factors, posterior.factors, strict=True):
        actual |= {factor.name: q.probs, f"{factor.name}_u": q.u.mean}
    assert set(actual) == {"corner", "corner_u", "shade", "shade_u", "z"}
    for name, value in actual.items():
        np.testing.assert_allclose(value.numpy(), expected[name], atol=1e-4)


@pytest.mark.usefixtures("_toys")
def test_the_run_is_reported_with_the_accuracies_of_its_summary() -> None:
    report = evaluate_run(RUN, Path())
    assert report.evaluation.accuracies == pytest.approx(RunDirectory(RUN).load_summary()["accuracy"])
    assert report.to_dict()["factors"]["corner"]["kl_c"] == pytest.approx(0.03, abs=0.005)


@pytest.mark.usefixtures("_toys")
@pytest.mark.parametrize("name", ["losses", "traversal_z", "embedding"])
def test_figures_of_the_run_are_drawn(finished: RunDirectory, name: str) -> None:
    assert name in FIGURES
    (path,) = draw_run(finished.path, None, Path(), only=(name,))
    assert path.stat().st_size > 1000


@pytest.mark.usefixtures("_toys")
def test_a_stopped_run_is_resumed(stopped: RunDirectory) -> None:
    before, _ = stopped.load_model(torch.device("cpu"))
    done = CliRunner().invoke(train, ["--resume", str(stopped.path), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert "a network predicts it from u in" in done.output
    summary = stopped.load_summary()
    assert summary["epochs"] == 3
    assert evaluate_run(stopped.path, Path()).measures.flat() == pytest.approx(summary["measures"])
    assert summary["measures"]["probe_u_mlp/corner"] > summary["measures"]["probe_chance/corner"]
    assert summary["accuracy_text"]["corner"].startswith(f"{round(64 * summary['accuracy']['corner'])} of 64 (")
    rows = read_metrics(stopped.metrics_file)
    assert [(row["epoch"], row["step"]) for row in rows] == [(1, 10), (2, 20), (3, 30)]
    assert all({"kl_c", "bhattacharyya"} <= set(row) for row in rows)
    after, state = stopped.load_model(torch.device("cpu"))
    assert state["epoch"] == 3
    assert any(not torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True))


@pytest.mark.usefixtures("_toys")
def test_a_stopped_run_is_not_resumed_with_more_epochs(stopped: RunDirectory) -> None:
    config = dataclasses.replace(stopped.load_config(), epochs=4)
    with pytest.raises(RunError, match="epochs"):
        train_run(config, stopped, Path(), "cpu", resume=True)


@pytest.mark.usefixtures("_toys")
def test_a_finished_run_is_not_resumed(finished: RunDirectory) -> None:
    with pytest.raises(RunError, match="--output"):
        train_run(finished.load_config(), finished, Path(), "cpu", resume=True)
