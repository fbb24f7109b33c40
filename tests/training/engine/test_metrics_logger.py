"""What TensorBoard reads of a run: the metrics of each epoch, and the configuration with the result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.metadata import (
    EXPERIMENT_TAG,
    SESSION_END_INFO_TAG,
    SESSION_START_INFO_TAG,
    parse_experiment_plugin_data,
    parse_session_end_info_plugin_data,
    parse_session_start_info_plugin_data,
)

from partedvae.common.runs.stored_run import read_metrics
from partedvae.training.engine.metrics_logger import MetricsLogger
from partedvae.training.evaluation.evaluation import Evaluation, evaluate
from partedvae.training.model.partedvae import PartedVAE
from partedvae.training.runs.directory import RunDirectory
from tests.training.toys import TOY_MODEL, tiny_config, toy_split


def events(folder: Path) -> EventAccumulator:
    """Return the events of a folder."""
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


def content(found: EventAccumulator, tag: str) -> bytes:
    """Return the data of the HPARAMS page under a tag."""
    data: bytes = found.SummaryMetadata(tag).plugin_data.content
    return data


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    """Return the evaluation of an untrained model."""
    return evaluate(PartedVAE(TOY_MODEL), toy_split(64, 2), tiny_config())


def test_an_epoch_is_logged_with_variances_and_dead_units(tmp_path: Path, evaluation: Evaluation) -> None:
    with MetricsLogger(RunDirectory(tmp_path), 0) as logger:
        logger.log(1, 10, {"loss": 2.5}, evaluation)
    (row,) = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert (row["epoch"], row["step"], row["loss"]) == (1, 10, 2.5)
    assert row["test/variance_z"] == evaluation.z_variance
    assert row["test/variance_u/corner"] == evaluation.u_variances["corner"]
    assert row["test/variance_u/shade"] == evaluation.u_variances["shade"]
    assert row["test/dead_units"] == evaluation.dead_units
    found = events(tmp_path)
    for name, value in row.items():
        (scalar,) = found.Scalars(name)
        assert (scalar.step, scalar.value) == (10, pytest.approx(value))


def test_a_resumed_run_keeps_the_epochs_that_have_ended(tmp_path: Path, evaluation: Evaluation) -> None:
    """And neither an epoch after the checkpoint nor a line that was half written, as after a crash."""
    run = RunDirectory(tmp_path)
    with MetricsLogger(run, 0) as logger:
        logger.log(1, 10, {"loss": 2.5}, evaluation)
        logger.log(2, 20, {"loss": 1.5}, evaluation)
    with run.metrics_file.open("ab") as file:
        file.write(b'{"epoch": 3, "st')
    with MetricsLogger(run, 1) as logger:
        logger.log(2, 20, {"loss": 1.25}, evaluation)
    assert [(row["epoch"], row["loss"]) for row in read_metrics(run.metrics_file)] == [(1, 2.5), (2, 1.25)]
    assert [(scalar.step, scalar.value) for scalar in events(tmp_path).Scalars("loss")] == [(10, 2.5), (20, 1.25)]


def test_a_damaged_line_of_the_metrics_is_an_error_with_file_and_remedy(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.metrics_file.write_bytes(b"\0" * 40 + b"\n")
    with pytest.raises(
        ValueError, match=r"metrics\.jsonl, line 1 cannot be read: .*; restore the file, or train the run"
    ):
        MetricsLogger(run, 1)


def test_the_result_is_in_the_same_event_file_as_the_epochs_with_the_whole_configuration(
    tmp_path: Path, evaluation: Evaluation
) -> None:
    config = tiny_config(seed=3)
    with MetricsLogger(RunDirectory(tmp_path), 0) as logger:
        logger.log(1, 10, {"loss": 2.5}, evaluation)
        logger.log_result(config, 10, evaluation)
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 1
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
    found = events(tmp_path)
    parameters = parse_session_start_info_plugin_data(content(found, SESSION_START_INFO_TAG)).hparams
    assert parameters["dataset"].string_value == "toys"
    assert parameters["seed"].number_value == 3
    assert parameters["objective.gamma_bc"].number_value == config.objective.gamma_bc
    assert parameters["supervision.every"].number_value == 1
    factors = json.loads(parameters["model.factors"].string_value)
    assert [factor["name"] for factor in factors] == ["corner", "shade"]
    shown = [metric.name.tag for metric in parse_experiment_plugin_data(content(found, EXPERIMENT_TAG)).metric_infos]
    assert {"final/accuracy/corner", "final/accuracy/shade", "final/reconstruction", "final/variance_z"} <= set(shown)
    for tag in shown:
        assert len(found.Scalars(tag)) == 1
    assert found.Scalars("final/accuracy/corner")[0].value == pytest.approx(evaluation.accuracies["corner"])
    assert parse_session_end_info_plugin_data(content(found, SESSION_END_INFO_TAG)).status == 1  # success
