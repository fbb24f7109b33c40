"""Training of a whole run: set-up or resumption, then epochs with evaluation, logging and checkpoints."""

from __future__ import annotations

import dataclasses
import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

import click
from jaxtyping import Int
from torch import Tensor

from partedvae.common.atomic_write import write_json
from partedvae.common.progress import progress_bar
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.data.dataset import UNLABELLED, ImageDataset, Split
from partedvae.training.data.labelled import choose_labelled
from partedvae.training.data.priors import estimated_prior
from partedvae.training.data.registry import load_dataset
from partedvae.training.distributed import launch
from partedvae.training.engine.device import choose_device, choose_precision, prepare
from partedvae.training.engine.groups import GroupLabels, group_labels
from partedvae.training.engine.metrics_logger import MetricsLogger
from partedvae.training.engine.resume import require_resumable, resumed_precision
from partedvae.training.engine.signals import StopFlag, stop_on_signals
from partedvae.training.engine.threads import use_threads
from partedvae.training.engine.trainer import Trainer
from partedvae.training.evaluation.diagnostics import collapse_warnings, separation_warnings
from partedvae.training.evaluation.evaluation import Evaluation, evaluate
from partedvae.training.evaluation.measures import Measures, measure
from partedvae.training.runs.data import check_run_dataset, label_use, select_train_images
from partedvae.training.runs.directory import RunDirectory, RunError

POSTFIX_STEPS = 20
"""Steps between two updates of the losses in the progress bar."""
EPOCH_TEST_IMAGES = 10_000
"""Maximum number of test images of the evaluation after an epoch; the summary uses all of them."""


def train_run(
    config: TrainConfig,
    run: RunDirectory,
    data_dir: Path,
    device_name: str,
    threads: int | None = None,
    *,
    resume: bool,
    measured: bool = True,
) -> dict[str, Any]:
    """Train a run to its end.

    Args:
        config: the configuration.
        run: directory that the run is written to.
        data_dir: folder of the data sets.
        device_name: auto, cpu or cuda.
        threads: threads of PyTorch; None chooses the number (`threads.py`), or for a run that is resumed keeps it.
        resume: whether to continue the run in the directory.
        measured: whether to measure, after training, what the latents contain.

    Returns:
        The summary of the run; empty on all processes but the main one.

    Raises:
        ValueError: the data set is not available, the configuration does not match it, or the directory does not match.
        KeyboardInterrupt: a signal asked to stop; the checkpoint has been written.
    """
    device = choose_device(device_name)
    if resume and config.precision in ("auto", run.load_config().precision):
        config = dataclasses.replace(config, precision=resumed_precision(run, device))
    config = dataclasses.replace(config, precision=choose_precision(device, config.precision))
    context = launch(device, config.precision)
    if not resume and context.is_main_process:
        run.require_new()
    with context.main_process_first():
        dataset = load_dataset(config.dataset, data_dir, config.fit, label_use(config))
    if context.is_main_process:
        for note in dataset.notes:
            click.echo(f"note: {note}", err=True)
    if resume and context.is_main_process:
        # Before labels are chosen, which a changed data set may not have.
        check_run_dataset(run, dataset, config.dataset)
    train = select_train_images(config, dataset)
    labelled = choose_labelled(train, dataset.truth, config.labels, config.labelled, config.seed)
    config = with_priors(config, train.labels[labelled])
    if resume:
        require_resumable(run, config, dataset, labelled)
    choice = use_threads(threads, run.load_provenance() if resume else None)
    if context.is_main_process:
        click.echo(f"threads: {choice.threads} ({choice.reason})", err=True)
    with context.main_process_first():
        main = context.is_main_process
        groups = _groups(config, run, train, labelled, stored=resume or not main, store=main)
    if groups is not None and context.is_main_process:
        _print_groups(groups, config)
    prepare(config.seed)
    trainer = Trainer(config, train, labelled, context, groups)
    if not resume and context.is_main_process:
        run.start(config, dataset, labelled, None if groups is None else _group_counts(groups, config))
    elif context.is_main_process and run.load_config().dataset != config.dataset:
        run.save_config(config)  # the new place of a folder that has moved
    seconds, epochs = 0.0, 0
    if resume and run.checkpoint_file.exists():
        checkpoint = run.load_checkpoint(trainer.device)
        trainer.load_state_dict(checkpoint["trainer"])
        seconds, epochs = checkpoint["seconds"], checkpoint["epoch"]
    else:
        trainer.warm_start()
    loop = TrainingLoop(run, trainer, dataset, seconds, epochs)
    loop.train()
    return loop.finish(data_dir if measured else None) if context.is_main_process else {}


def _groups(
    config: TrainConfig, run: RunDirectory, train: Split, labelled: Int[Tensor, " labels"], *, stored: bool, store: bool
) -> GroupLabels | None:
    """Return the labels of groups: those of the run directory, where they are asked for and there are any, or new ones.

    None without a run of features.
    """
    if not config.features_run:
        return None
    if stored and (earlier := run.load_groups()):
        return GroupLabels(earlier["images"], earlier["labels"])
    click.echo(f"grouping images by the features of {config.features_run}", err=True)
    groups = group_labels(config, train, labelled)
    if store:
        run.save_groups({"images": groups.images, "labels": groups.labels})
    return groups


def _print_groups(groups: GroupLabels, config: TrainConfig) -> None:
    for note in groups.notes:
        click.secho(f"warning: {note}", fg="yellow", err=True)
    labels = ", ".join(f"{name} of {count:,} images" for name, count in _group_counts(groups, config).items())
    click.echo(f"labels of groups: {labels}", err=True)


def _group_counts(groups: GroupLabels, config: TrainConfig) -> dict[str, int]:
    """Return the number of labels of groups by factor."""
    counts = (groups.labels != UNLABELLED).sum(dim=0).tolist()
    return {factor.name: count for factor, count in zip(config.model.factors, counts, strict=True)}


def with_priors(config: TrainConfig, labels: Int[Tensor, "labelled factors"]) -> TrainConfig:
    """Return the configuration with the p(c_k) that `config.priors` selects.

    Args:
        config: the configuration; "given" leaves the priors of its recipe.
        labels: labels of the labelled images, for "estimated".
    """
    if config.priors == "given" or not config.model.factors:
        return config
    factors = []
    for k, factor in enumerate(config.model.factors):
        classes = len(factor.classes)
        estimated = config.priors == "estimated"
        prior = estimated_prior(labels[:, k], classes) if estimated else (1 / classes,) * classes
        factors.append(dataclasses.replace(factor, prior=prior))
    return dataclasses.replace(config, model=dataclasses.replace(config.model, factors=tuple(factors)))


class TrainingLoop:
    """The epochs of a run; each ends with an evaluation, a line of metrics and a checkpoint."""

    def __init__(
        self, run: RunDirectory, trainer: Trainer, dataset: ImageDataset, seconds: float, epochs: int = 0
    ) -> None:
        """Prepare to train from the trainer's step to the end.

        Args:
            run: directory of metrics, checkpoints and summary.
            trainer: model, optimisers and training state.
            dataset: the data set, whose test images are evaluated.
            seconds: training time of earlier processes.
            epochs: epochs that they have ended, with evaluation and metrics.
        """
        self.run = run
        self.trainer = trainer
        self.dataset = dataset
        self.test = dataset.test
        self.config = trainer.config
        self.context = trainer.context
        self.evaluation: Evaluation | None = None
        self.epochs_done = epochs
        """Number of epochs that have ended. A run that was stopped during an evaluation has all steps of one more."""
        self._earlier_seconds = seconds
        self._started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Training time in seconds, including earlier processes."""
        return self._earlier_seconds + time.perf_counter() - self._started

    def train(self) -> None:
        """Train to the end.

        Raises:
            RunError: training diverged; the last checkpoint is kept.
            KeyboardInterrupt: a signal asked to stop; the checkpoint has been written.
        """
        if not self.context.is_main_process:
            self._train_epochs(None)
            return
        with MetricsLogger(self.run, self.epochs_done, self.trainer.step) as logger:
            self._train_epochs(logger)
            if self.evaluation is None or self.evaluation.images < len(self.test):
                with stop_on_signals() as stop, stop.at_once():
                    self.evaluation = self._evaluate(self.test)
            logger.log_result(self.config, self.trainer.step, self.evaluation)

    def _train_epochs(self, logger: MetricsLogger | None) -> None:
        """Train to the end of the last epoch, logging each; without a logger on all processes but the main one."""
        with stop_on_signals() as stop:
            while self.epochs_done < self.config.epochs:
                if not self._train_epoch(stop):
                    self._stop(self._state())
                last_step = self._state()
                losses = self.trainer.end_epoch()
                self.epochs_done += 1
                self._require_finite(losses)
                if logger is not None:
                    self._finish_epoch(losses, logger, stop, last_step)
                # Here too, since an epoch may have a single step.
                if self.context.any(stop.is_set):
                    self._stop(self._state())

    def finish(self, data_dir: Path | None) -> dict[str, Any]:
        """Evaluate the trained model, print its warnings, and write and return the summary.

        Args:
            data_dir: folder of the data sets, for `measure`; None leaves the measures out.
        """
        seconds, evaluation = self.seconds, self.evaluation
        assert evaluation is not None
        measures = Measures()
        if data_dir is not None:
            with stop_on_signals() as stop, stop.at_once():
                measures = measure(self.trainer.final_model, self.dataset, self.config, evaluation, data_dir)
        broken = separation_warnings(evaluation, measures)
        for warning in broken:
            click.secho(f"warning: {warning}", fg="yellow", err=True)
        images = self.trainer.step * self.trainer.batches.batch_size
        summary = {
            "dataset": self.config.dataset,
            "recipe": self.config.recipe,
            "method": self.config.method,
            "seed": self.config.seed,
            "labels": self.config.labels,
            "epochs": self.epochs_done,
            "accuracy": evaluation.accuracies,
            "accuracy_text": evaluation.accuracy_texts,
            "train_seconds": round(seconds, 1),
            "train_images_per_second": round(images / seconds, 1),
            # Absent rather than empty where nothing was measured.
            **({} if data_dir is None else {"measures": measures.flat()}),
            "warnings": collapse_warnings(evaluation, self.config.method) + broken,
        }
        write_json(self.run.summary_file, summary)
        return summary

    def _train_epoch(self, stop: StopFlag) -> bool:
        """Train to the end of the current epoch; return False if a signal asked to stop before it."""
        trainer, steps = self.trainer, self.trainer.steps_per_epoch
        first_step = trainer.step - self.epochs_done * steps
        images, batch_size = self.config.epoch_images or len(trainer.images), self.config.batch_size
        title = f"epoch {self.epochs_done + 1}/{self.config.epochs}"
        with progress_bar(
            images, done=first_step * batch_size, unit="img", title=title, shown=self.context.is_main_process
        ) as bar:
            postfix: dict[str, str] = {}
            for step in range(first_step, steps):
                losses = trainer.train_step()
                if step % POSTFIX_STEPS == 0:
                    shown = [name for name in ("loss", "reconstruction", "supervised") if name in losses]
                    postfix |= {name: f"{losses[name].item():.4g}" for name in shown}
                    bar.set_postfix(postfix, refresh=False)
                bar.update(min(batch_size, images - step * batch_size))
                if step + 1 < steps and self.context.any(stop.is_set):
                    return False
        return True

    def _stop(self, state: dict[str, Any]) -> NoReturn:
        """Save a state and end training early.

        Raises:
            KeyboardInterrupt: always.
        """
        if self.context.is_main_process:
            self.run.save_checkpoint(state)
            click.echo(
                f"stopped at step {self.trainer.step}; continue with 'partedvae train --resume {self.run.path}'",
                err=True,
            )
        raise KeyboardInterrupt

    def _require_finite(self, losses: dict[str, float]) -> None:
        """Check the mean losses of an epoch before the checkpoint is replaced.

        Raises:
            RunError: a loss is infinite or NaN.
        """
        if not all(math.isfinite(value) for value in losses.values()):
            raise RunError(
                f"training diverged in epoch {self.epochs_done}: {losses}; lower optimiser.learning_rate or try "
                f"another --seed, with a new --output ({self.run.path} keeps the last checkpoint)"
            )

    def _finish_epoch(
        self, losses: dict[str, float], logger: MetricsLogger, stop: StopFlag, last_step: dict[str, Any]
    ) -> None:
        """Evaluate the model, log the metrics, save a checkpoint and print a line with warnings.

        Args:
            losses: mean losses of the epoch.
            logger: writes the metrics.
            stop: set by signals, which interrupt the evaluation.
            last_step: the state after the last step of the epoch, from which an interrupted evaluation is repeated.
        """
        test = self.test.first(EPOCH_TEST_IMAGES) if len(self.test) > EPOCH_TEST_IMAGES else self.test
        try:
            # Other processes wait for this one, so that all can stop only together, after the evaluation.
            with stop.at_once() if self.context.world_size == 1 else nullcontext():
                self.evaluation = evaluation = self._evaluate(test)
        except KeyboardInterrupt:
            self._stop(last_step)
        # Before the checkpoint: a process that is killed in between writes the line again, and none is lost.
        logger.log(self.epochs_done, self.trainer.step, losses, evaluation)
        self.run.save_checkpoint(self._state())
        click.echo(self._epoch_line(losses, evaluation), err=True)
        needs_classes = self.config.labels > 0 or not self.config.objective.gamma_contrast
        for warning in collapse_warnings(evaluation, self.config.method, needs_classes=needs_classes):
            click.secho(f"warning: {warning}", fg="yellow", err=True)

    def _evaluate(self, test: Split) -> Evaluation:
        return evaluate(self.trainer.final_model, test, self.config, self.run.load_label_counts())

    def _epoch_line(self, losses: dict[str, float], evaluation: Evaluation) -> str:
        shown = [name for name in ("loss", "reconstruction", "kl_z", "kl_u") if name in losses]
        parts = [f"{name.replace('_', ' ')} {losses[name]:.4g}" for name in shown]
        parts += [f"test accuracy {name} {text}" for name, text in evaluation.accuracy_texts.items()]
        return f"epoch {self.epochs_done}/{self.config.epochs}: {', '.join(parts)}, {self.seconds:.0f} s"

    def _state(self) -> dict[str, Any]:
        """Return the content of a checkpoint; its tensors are those of the trainer."""
        return {
            "trainer": self.trainer.state_dict(),
            "final_model": self.trainer.final_model.state_dict(),
            "epoch": self.epochs_done,
            "seconds": self.seconds,
        }
