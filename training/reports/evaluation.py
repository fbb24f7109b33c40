"""Evaluation report of a stored run, as text or JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from partedvae.common.atomic_write import atomic_write, write_json
from partedvae.common.progress import progress_bar
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.data.dataset import Chosen, Truth
from partedvae.training.evaluation.diagnostics import model_warnings, separation_warnings
from partedvae.training.evaluation.evaluation import Evaluation, FactorEvaluation, evaluate
from partedvae.training.evaluation.intervals import format_accuracy, wilson_interval
from partedvae.training.evaluation.measures import Measures, measure
from partedvae.training.evaluation.metrics.dci import Predictor
from partedvae.training.evaluation.metrics.representation import represent
from partedvae.training.evaluation.metrics.scores import DisentanglementScores, disentanglement_scores
from partedvae.training.model.partedvae import PartedVAE
from partedvae.training.reports.measures import measure_lines
from partedvae.training.runs.data import is_drawn, load_run_dataset
from partedvae.training.runs.directory import RunDirectory

SCORE_SEED = 0
"""Random seed of the disentanglement scores, so that they are reproducible."""
TRUTH_IMAGES = 40_000
"""Default number of images for disentanglement scores: 15 seconds, instead of 5 minutes for all of dSprites."""

DCI_NOTES: dict[Predictor, str] = {
    "forest": "importances of dci: random forests; compare only those of --dci boosting with published scores",
    "boosting": "importances of dci: gradient boosting, as in disentanglement_lib",
}
"""Which importances the DCI scores have, for the report."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """All measurements of a run."""

    config: TrainConfig
    """Configuration of the run."""
    evaluation: Evaluation
    """Accuracy and indicators of a collapse, on the test images."""
    model_warnings: list[str]
    """Warnings that need no measures, such as of a collapse."""
    measures: Measures
    """Whether u and not z has the class: by an oracle and by probes."""
    scores: DisentanglementScores | None
    """Disentanglement scores, where the true factors are known."""
    source: dict[str, str]
    """Origin of each file of the data, such as a checksum or a note that it was drawn."""

    @property
    def warnings(self) -> list[str]:
        """What the model does not keep of the method's promises."""
        return self.model_warnings + separation_warnings(self.evaluation, self.measures)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as values that JSON supports."""
        evaluation = self.evaluation
        factors = {
            factor.name: {
                "accuracy": factor.accuracy,
                "correct": factor.correct,
                "labelled": factor.labelled,
                "interval": wilson_interval(factor.correct, factor.labelled) if factor.accuracy is not None else None,
                "confusion": factor.confusion.tolist(),
                "information": factor.information,
                "kl_c": factor.kl_c,
            }
            for factor in evaluation.factors
        }
        return {
            "images": evaluation.images,
            "factors": factors,
            **self.measures.to_dict(),
            "disentanglement": self.scores.report() if self.scores else None,
            "reconstruction": evaluation.reconstruction,
            "kl_z": evaluation.kl_z,
            "z_spread": evaluation.z_spread,
            "z_variance": evaluation.z_variance,
            "u_variances": evaluation.u_variances,
            "dead_units": evaluation.dead_units,
            "warnings": self.warnings,
            "data": self.source,
        }

    def to_json(self) -> str:
        """Return the report as JSON."""
        return json.dumps(self.to_dict(), indent=2)

    def to_text(self) -> str:
        """Return the report as text tables."""
        config, evaluation = self.config, self.evaluation
        lines = [f"{config.dataset}, recipe {config.recipe}, {config.labels} labels, {evaluation.images:,} test images"]
        lines += [f"data: {name}: {origin}" for name, origin in self.source.items() if is_drawn(origin)]
        lines += [f"{factor.name}: {_accuracy(factor)}" for factor in evaluation.factors]
        lines += measure_lines(self.measures)
        lines += ["", *self._score_lines()] if self.scores else []
        for factor, spec in zip(evaluation.factors, config.model.factors, strict=True):
            lines += ["", f"{factor.name}: true classes down, predicted across"]
            lines += _confusion(spec.classes, factor.confusion)
        lines += [
            "",
            f"reconstruction error {evaluation.reconstruction:.2f} per image, KL of z {evaluation.kl_z:.2f} nats",
            _variances(evaluation),
        ]
        lines += [f"warning: {warning}" for warning in self.warnings]
        return "\n".join(lines)

    def _score_lines(self) -> Iterator[str]:
        assert self.scores is not None
        yield f"disentanglement of {', '.join(self.scores.factors)} on {self.scores.images:,} images"
        for name, value in self.scores.summary().items():
            yield f"  {name:<20} {value:.3f}"
        yield DCI_NOTES[self.scores.dci.predictor]


def evaluate_run(
    run_dir: Path,
    data_dir: Path,
    truth_images: int = TRUTH_IMAGES,
    dci_predictor: Predictor = "forest",
    dataset_name: str | None = None,
    device: torch.device = torch.device("cpu"),  # noqa: B008  # immutable
) -> Report:
    """Evaluate a run on its data set.

    Args:
        run_dir: the run directory.
        data_dir: folder of the data sets.
        truth_images: number of images for disentanglement scores, where the true factors are known; 0 uses all.
        dci_predictor: classifiers that give the importances of DCI.
        dataset_name: name of the data set where its folder has moved; None takes that of the run.
        device: where to run the networks.

    Raises:
        ValueError: the run or the data set is not available, or they do not match.
    """
    run = RunDirectory(run_dir)
    config = run.load_config()
    model, _ = run.load_model(device)
    dataset = load_run_dataset(run, data_dir, dataset_name)
    evaluation = evaluate(model, dataset.test, config, run.load_label_counts())
    return Report(
        config=config,
        evaluation=evaluation,
        model_warnings=model_warnings(model, evaluation, run, dataset),
        measures=measure(model, dataset, config, evaluation, data_dir),
        scores=_scores(model, dataset.truth, config, truth_images, dci_predictor) if dataset.truth else None,
        source=dataset.source,
    )


def record_measures(run: RunDirectory, report: Report) -> None:
    """Write the measures, scores and warnings of a report into the summary of its run.

    `partedvae export` takes measures and warnings from there, and `partedvae compare` all.

    Args:
        run: the run; an unfinished one has no summary, and stays as it is.
        report: its report.
    """
    if run.summary_file.exists():
        summary = {**run.load_summary(), "measures": report.measures.flat(), "warnings": report.warnings}
        if report.scores:
            summary["disentanglement"] = report.scores.summary()
        write_json(run.summary_file, summary)


def _scores(
    model: PartedVAE, truth: Truth, config: TrainConfig, count: int, dci_predictor: Predictor
) -> DisentanglementScores:
    values, images = truth.values, truth.images
    if 0 < count < len(values):
        chosen = torch.randperm(len(values), generator=torch.Generator().manual_seed(SCORE_SEED))[:count].sort().values
        images, values = Chosen(images, chosen), values[chosen]
    with progress_bar(len(values), done=0, unit="img", title="encoding") as bar:
        latents = represent(model, images, config, bar.update)
    return disentanglement_scores(latents.joined, values.numpy(), truth.names, SCORE_SEED, dci_predictor)


def _accuracy(factor: FactorEvaluation) -> str:
    if factor.accuracy is not None:
        return f"accuracy {format_accuracy(factor.correct, factor.labelled)}"
    return "no labelled test images" if factor.supervised else "clusters, because training had no labels of it"


def _confusion(classes: tuple[str, ...], confusion: Tensor) -> Iterator[str]:
    width = max(5, *(len(name) + 1 for name in classes))
    yield " " * width + "".join(f"{name:>{width}}" for name in classes)
    for name, row in zip(classes, confusion.tolist(), strict=True):
        yield f"{name:>{width}}" + "".join(f"{count:>{width}}" for count in row)


def _variances(evaluation: Evaluation) -> str:
    parts = [f"{evaluation.z_variance:.3f} of z"]
    parts += [f"{value:.3f} of u of {name}" for name, value in evaluation.u_variances.items()]
    return f"mean posterior variance {', '.join(parts)}; dead units of h {evaluation.dead_units:.0%}"


def write_predictions(path: Path, evaluation: Evaluation) -> None:
    """Write the predicted class index of every test image as .npz, one int64 array per factor.

    Args:
        path: the file; its folder is created where it is missing.
        evaluation: the evaluation on the test images.
    """
    arrays = {factor.name: factor.predictions.numpy() for factor in evaluation.factors}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        # The stubs of NumPy check the values against the type of the keyword allow_pickle.
        np.savez(file, **arrays)  # type: ignore[arg-type]  # see above
