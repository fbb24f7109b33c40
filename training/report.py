"""Evaluating a stored run, and showing the result to a person or a program."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from training.config import TrainConfig
from training.data.registry import load_dataset
from training.evaluation import Evaluation, evaluate
from training.files import write_aside
from training.health import warnings
from training.run import RunDirectory


def evaluate_run(run_dir: Path, data_dir: Path) -> tuple[Evaluation, TrainConfig]:
    """Load a run's model and evaluate it on its data set's test images.

    Raises:
        ValueError: the run or the data set cannot be had.
    """
    run = RunDirectory(run_dir)
    config = run.load_config()
    model, _ = run.load_model(torch.device("cpu"))
    return evaluate(model, load_dataset(config.dataset, data_dir).test, config), config


def report_as_json(evaluation: Evaluation) -> str:
    """Return the scores as JSON."""
    factors = {
        factor.name: {
            "accuracy": factor.accuracy,
            "confusion": factor.confusion.tolist(),
            "information": factor.information,
            "prior_mismatch": factor.prior_mismatch,
        }
        for factor in evaluation.factors
    }
    scores = {
        "images": evaluation.images,
        "factors": factors,
        "reconstruction": evaluation.reconstruction,
        "kl_z": evaluation.kl_z,
        "z_spread": evaluation.z_spread,
        "warnings": warnings(evaluation),
    }
    return json.dumps(scores, indent=2)


def render_evaluation(evaluation: Evaluation, config: TrainConfig) -> str:
    """Return the scores as text: a line and a confusion matrix for each factor."""
    lines = [f"{config.dataset}, recipe {config.recipe}, {config.labels} labels, {evaluation.images} test images"]
    for factor, spec in zip(evaluation.factors, config.model.factors, strict=True):
        width = max(5, *(len(name) + 1 for name in spec.classes))
        lines.append(f"{factor.name}: accuracy {factor.accuracy:.2%}; true classes down, predicted across")
        lines.append(" " * width + "".join(f"{name:>{width}}" for name in spec.classes))
        for name, row in zip(spec.classes, factor.confusion.tolist(), strict=True):
            lines.append(f"{name:>{width}}" + "".join(f"{count:>{width}}" for count in row))
    lines.append(f"reconstruction error {evaluation.reconstruction:.2f} an image, KL of z {evaluation.kl_z:.2f} nats")
    lines += [f"warning: {warning}" for warning in warnings(evaluation)]
    return "\n".join(lines)


def write_predictions(path: Path, evaluation: Evaluation) -> None:
    """Write the predicted class index of every test image, one int64 array a factor, as .npz."""
    arrays = {factor.name: factor.predictions.numpy() for factor in evaluation.factors}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_aside(path, lambda aside: _save(aside, arrays))


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
