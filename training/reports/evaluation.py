"""Evaluating a stored run in full, and showing the result to a person or a program."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from partedvae.common.atomic_write import atomic_write
from partedvae.common.progress import progress_bar
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.data.dataset import Chosen, Truth
from partedvae.training.evaluation.diagnostics import warnings
from partedvae.training.evaluation.evaluation import Evaluation, FactorEvaluation, evaluate
from partedvae.training.evaluation.metrics.probes import Separation, separation
from partedvae.training.evaluation.metrics.representation import represent
from partedvae.training.evaluation.metrics.scores import DisentanglementScores, disentanglement_scores
from partedvae.training.model.partedvae import PartedVAE
from partedvae.training.runs.data import load_run_dataset
from partedvae.training.runs.directory import RunDirectory

SCORE_SEED = 0
"""Of what scores draw: the same run has the same scores."""
FEWEST_FOR_PROBES = 200
"""Test images below which a probe's accuracy would be a matter of chance."""
TRUTH_IMAGES = 40_000
"""Images that disentanglement scores are computed on unless more are asked for: a quarter of a minute, not five."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that is measured of a run."""

    config: TrainConfig
    """What it was told."""
    evaluation: Evaluation
    """Accuracy and what shows a collapse, on the test images."""
    separations: tuple[Separation, ...]
    """Probes of u and z, a factor each, on the test images; none where these are too few to tell anything."""
    scores: DisentanglementScores | None
    """Disentanglement scores, where the true factors are known."""
    source: dict[str, str]
    """Where the data came from: a drawn data set says so."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything in JSON's types."""
        evaluation = self.evaluation
        factors = {
            factor.name: {
                "accuracy": factor.accuracy,
                "confusion": factor.confusion.tolist(),
                "information": factor.information,
                "kl_c": factor.kl_c,
            }
            for factor in evaluation.factors
        }
        probes = {
            s.factor: {"u": s.u._asdict(), "z": s.z._asdict(), "chance": s.chance, "rows": s.rows}
            for s in self.separations
        }
        return {
            "images": evaluation.images,
            "factors": factors,
            "probes": probes,
            "disentanglement": self.scores.report() if self.scores else None,
            "reconstruction": evaluation.reconstruction,
            "kl_z": evaluation.kl_z,
            "z_spread": evaluation.z_spread,
            "warnings": warnings(evaluation, self.config.method),
            "data": self.source,
        }

    def to_json(self) -> str:
        """Return everything as JSON."""
        return json.dumps(self.to_dict(), indent=2)

    def to_text(self) -> str:
        """Return everything for a person to read."""
        config, evaluation = self.config, self.evaluation
        lines = [f"{config.dataset}, recipe {config.recipe}, {config.labels} labels, {evaluation.images:,} test images"]
        lines += [f"data: {name}: {origin}" for name, origin in self.source.items() if "drawn" in origin]
        for factor, spec in zip(evaluation.factors, config.model.factors, strict=True):
            lines += ["", f"{factor.name}: {_accuracy(factor)}; true classes down, predicted across"]
            lines += _confusion(spec.classes, factor.confusion)
        lines += ["", *self._separation_lines()] if self.separations else []
        lines += ["", *self._score_lines()] if self.scores else []
        lines += [
            "",
            f"reconstruction error {evaluation.reconstruction:.2f} an image, KL of z {evaluation.kl_z:.2f} nats",
        ]
        lines += [f"warning: {warning}" for warning in warnings(evaluation, config.method)]
        return "\n".join(lines)

    def _separation_lines(self) -> Iterator[str]:
        width = max(6, *(len(s.factor) for s in self.separations))
        yield "how well a probe reads the class (linear, MLP): off u it should, off z it should not"
        yield f"{'factor':<{width}}  u linear  u MLP  z linear  z MLP  chance  images"
        for s in self.separations:
            numbers = (
                f"{s.u.linear:>8.1%} {s.u.mlp:>6.1%} {s.z.linear:>9.1%} {s.z.mlp:>6.1%} {s.chance:>7.1%} {s.rows:>7,}"
            )
            yield f"{s.factor:<{width}}  {numbers}"

    def _score_lines(self) -> Iterator[str]:
        assert self.scores is not None
        yield f"disentanglement of {', '.join(self.scores.factors)} on {self.scores.images:,} images"
        for name, value in self.scores.summary().items():
            yield f"  {name:<20} {value:.3f}"


def evaluate_run(run_dir: Path, data_dir: Path, truth_images: int = TRUTH_IMAGES) -> Report:
    """Load a run's model and measure it on its data set.

    Args:
        run_dir: the run directory.
        data_dir: folder of the data sets.
        truth_images: images to compute disentanglement scores on, where the true factors are known; 0 is all.

    Raises:
        ValueError: the run or the data set cannot be had, or they do not fit each other.
    """
    run = RunDirectory(run_dir)
    config = run.load_config()
    model, _ = run.load_model(torch.device("cpu"))
    dataset = load_run_dataset(run, data_dir)
    evaluation = evaluate(model, dataset.test, config, run.load_label_counts())
    separations: tuple[Separation, ...] = ()
    # The classifier has trained neither u nor z.
    if config.method == "partedvae" and len(dataset.test) >= FEWEST_FOR_PROBES:
        latents = represent(model, dataset.test.images, config)
        names = tuple(factor.name for factor in config.model.factors)
        separations = separation(latents.u_mean, latents.z_mean, dataset.test.labels.numpy(), names, SCORE_SEED)
    return Report(
        config=config,
        evaluation=evaluation,
        separations=separations,
        scores=_scores(model, dataset.truth, config, truth_images) if dataset.truth else None,
        source=dataset.source,
    )


def _scores(model: PartedVAE, truth: Truth, config: TrainConfig, count: int) -> DisentanglementScores:
    values, images = truth.values, truth.images
    if 0 < count < len(values):
        chosen = torch.randperm(len(values), generator=torch.Generator().manual_seed(SCORE_SEED))[:count].sort().values
        images, values = Chosen(images, chosen), values[chosen]
    with progress_bar(len(values), done=0, unit="img", title="encoding") as bar:
        latents = represent(model, images, config, bar.update)
    return disentanglement_scores(latents.joined, values.numpy(), truth.names, SCORE_SEED)


def _accuracy(factor: FactorEvaluation) -> str:
    if factor.accuracy is not None:
        return f"accuracy {factor.accuracy:.2%}"
    return "no labelled test images" if factor.named else "clusters, as training had no labels of it"


def _confusion(classes: tuple[str, ...], confusion: Tensor) -> Iterator[str]:
    width = max(5, *(len(name) + 1 for name in classes))
    yield " " * width + "".join(f"{name:>{width}}" for name in classes)
    for name, row in zip(classes, confusion.tolist(), strict=True):
        yield f"{name:>{width}}" + "".join(f"{count:>{width}}" for count in row)


def write_predictions(path: Path, evaluation: Evaluation) -> None:
    """Write the predicted class index of every test image, one int64 array a factor, as .npz."""
    arrays = {factor.name: factor.predictions.numpy() for factor in evaluation.factors}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        # NumPy types its keyword arguments as if one of them were allow_pickle.
        np.savez(file, **arrays)  # type: ignore[arg-type]  # its stubs take names for options
