"""A whole run: set up, train epoch by epoch, notice what goes wrong, save; or go on where a process stopped."""

from __future__ import annotations

import dataclasses
import math
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from jaxtyping import Int
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from partedvae.common.atomic_write import write_json
from partedvae.common.progress import progress_bar
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.data.dataset import DataError, ImageDataset, Split
from partedvae.training.data.labelled import choose_labelled
from partedvae.training.data.priors import estimated_prior
from partedvae.training.data.registry import load_dataset
from partedvae.training.distributed import Ranks, launch
from partedvae.training.engine.device import choose_device, prepare
from partedvae.training.engine.signals import Interrupts, noticing_interrupts
from partedvae.training.engine.trainer import Trainer
from partedvae.training.evaluation.diagnostics import collapse_warnings
from partedvae.training.evaluation.evaluation import Evaluation, evaluate
from partedvae.training.runs.data import check_run_dataset
from partedvae.training.runs.directory import RunDirectory, RunError

POSTFIX_EVERY = 20
"""Steps between two updates of the losses beside the bar."""
TEST_IMAGES_ON_THE_WAY = 10_000
"""Test images that are evaluated after each epoch; the summary takes all."""


def train_run(
    config: TrainConfig, run: RunDirectory, data_dir: Path, device_name: str, *, resume: bool
) -> dict[str, Any]:
    """Train a run to its end and return its summary; empty on all ranks but the first.

    Raises:
        ValueError: the configuration does not fit the data, the data cannot be had, or the run directory does not fit.
        KeyboardInterrupt: a signal asked to stop; the state was saved first.
    """
    ranks = Ranks(launch(choose_device(device_name), config.precision))
    if not resume and ranks.is_first:
        run.require_new()
    with ranks.first_goes_ahead():
        dataset = load_dataset(config.dataset, data_dir)
    if config.train_images > len(dataset.train):
        raise DataError(
            f"train_images is {config.train_images}; {config.dataset} has {len(dataset.train)} training images"
        )
    train = dataset.train.first(config.train_images) if config.train_images else dataset.train
    labelled = choose_labelled(train, dataset.truth, config.labels, config.labelled, config.seed)
    config = with_priors(config, train.labels[labelled])
    if resume:
        stored = run.load_config()
        # First, because a configuration follows its data set: what changed is the data, not the options.
        if ranks.is_first and stored.dataset == config.dataset:
            check_run_dataset(run, dataset)
        _require_same(config, stored)
        if run.summary_file.exists():
            raise RunError(f"{run.path} has ended already; raise --epochs in a new --output to train longer")
    prepare(config.seed)
    trainer = Trainer(config, train, labelled, ranks)
    seconds = 0.0
    if not resume and ranks.is_first:
        run.start(config, dataset, labelled)
    if resume and run.checkpoint_file.exists():
        state = run.load_checkpoint(trainer.device)
        trainer.load_state_dict(state["trainer"])
        seconds = state["seconds"]
    else:
        trainer.warm_start()
    return _Loop(run, trainer, dataset, train, seconds).run_all()


def with_priors(config: TrainConfig, labels: Int[Tensor, "labelled factors"]) -> TrainConfig:
    """Return the configuration with the p(c_k) that `config.priors` asks for; "given" leaves the recipe's."""
    if config.priors == "given" or not config.model.factors:
        return config
    factors = []
    for k, factor in enumerate(config.model.factors):
        classes = len(factor.classes)
        estimated = config.priors == "estimated"
        prior = estimated_prior(labels[:, k], classes) if estimated else (1 / classes,) * classes
        factors.append(dataclasses.replace(factor, prior=prior))
    return dataclasses.replace(config, model=dataclasses.replace(config.model, factors=tuple(factors)))


class _Loop:
    """The loop over steps, with what happens at the end of each epoch."""

    def __init__(
        self, run: RunDirectory, trainer: Trainer, dataset: ImageDataset, train: Split, seconds: float
    ) -> None:
        self.run, self.trainer, self.dataset, self.train = run, trainer, dataset, train
        self.config, self.ranks = trainer.config, trainer.ranks
        self.seconds_before = seconds
        self.started = time.perf_counter()
        self.epochs_done = trainer.step // trainer.steps_per_epoch
        self.writer: SummaryWriter | None = None
        self.evaluation: Evaluation | None = None
        if self.ranks.is_first:
            run.keep_metrics_until(self.epochs_done)

    @property
    def seconds(self) -> float:
        """Seconds of training, earlier processes included."""
        return self.seconds_before + time.perf_counter() - self.started

    def run_all(self) -> dict[str, Any]:
        """Train to the end; save and raise KeyboardInterrupt when a signal asks to stop."""
        trainer = self.trainer
        with ExitStack() as stack:
            if self.ranks.is_first:
                self.writer = stack.enter_context(SummaryWriter(str(self.run.path), purge_step=trainer.step))
            interrupts = stack.enter_context(noticing_interrupts())
            while trainer.step < trainer.total_steps:
                if self._train_epoch(interrupts):
                    self._save()
                    self._say(f"stopped at step {trainer.step}; continue with the same command and --resume")
                    raise KeyboardInterrupt
                self._end_epoch()
        if not self.ranks.is_first:
            return {}
        summary = self._summarise()
        write_json(self.run.summary_file, summary)
        return summary

    def _train_epoch(self, interrupts: Interrupts) -> bool:
        """Train to the end of the epoch; return whether a signal asked to stop before it."""
        trainer, per_epoch = self.trainer, self.trainer.steps_per_epoch
        done = trainer.step % per_epoch
        images, batch = self.config.epoch_images or len(self.train), self.config.batch_size
        title = f"epoch {self.epochs_done + 1}/{self.config.epochs}"
        with progress_bar(images, done=done * batch, unit="img", title=title, shown=self.ranks.is_first) as bar:
            for position in range(done, per_epoch):
                losses = trainer.train_step()
                if position % POSTFIX_EVERY == 0:
                    shown = {
                        name: losses[name].item() for name in ("loss", "reconstruction", "supervised") if name in losses
                    }
                    bar.set_postfix({name: f"{value:.4g}" for name, value in shown.items()}, refresh=False)
                bar.update(min(batch, images - position * batch))
                if position + 1 < per_epoch and self.ranks.any(interrupts.requested):
                    return True
        return False

    def _end_epoch(self) -> None:
        """Evaluate, report, warn and save.

        Raises:
            RunError: the losses are no numbers any more. The checkpoint before this epoch stays.
        """
        losses = self.trainer.end_epoch()
        self.epochs_done += 1
        if not all(math.isfinite(value) for value in losses.values()):
            raise RunError(
                f"training diverged in epoch {self.epochs_done}: {losses}; lower optimiser.learning_rate, or try "
                f"another --seed, with a new --output ({self.run.path} keeps the last good checkpoint)"
            )
        if not self.ranks.is_first:
            return
        test = self.dataset.test
        if len(test) > TEST_IMAGES_ON_THE_WAY:
            test = test.first(TEST_IMAGES_ON_THE_WAY)
        self.evaluation = evaluation = self._evaluate(test)
        row = {"epoch": self.epochs_done, "step": self.trainer.step, **losses, **_test_scores(evaluation)}
        assert self.writer is not None
        for name, value in row.items():
            self.writer.add_scalar(name, value, self.trainer.step)
        # In this order: a process that is killed in between writes the line again, and none is lost.
        self.run.append_metrics(row)
        self._save()
        self._say(f"epoch {self.epochs_done}/{self.config.epochs}: {self._described(losses, evaluation)}")
        for warning in collapse_warnings(evaluation, self.config.method):
            click.secho(f"warning: {warning}", fg="yellow", err=True)

    def _evaluate(self, test: Split) -> Evaluation:
        return evaluate(self.trainer.final_model, test, self.config, self.run.load_label_counts())

    def _summarise(self) -> dict[str, Any]:
        """Return the result of the run, on all test images."""
        evaluation = self.evaluation
        if evaluation is None or evaluation.images < len(self.dataset.test):
            evaluation = self._evaluate(self.dataset.test)
        images = self.trainer.step * self.trainer.batches.batch_size
        return {
            "dataset": self.config.dataset,
            "recipe": self.config.recipe,
            "method": self.config.method,
            "seed": self.config.seed,
            "labels": self.config.labels,
            "epochs": self.epochs_done,
            "accuracy": evaluation.accuracies,
            "train_seconds": round(self.seconds, 1),
            "train_images_per_second": round(images / self.seconds, 1),
            "warnings": collapse_warnings(evaluation, self.config.method),
        }

    def _described(self, losses: dict[str, float], evaluation: Evaluation) -> str:
        parts = [
            f"{name.replace('_', ' ')} {losses[name]:.4g}"
            for name in ("loss", "reconstruction", "kl_z", "kl_u")
            if name in losses
        ]
        parts += [f"test accuracy {name} {value:.2%}" for name, value in evaluation.accuracies.items()]
        return ", ".join([*parts, f"{self.seconds:.0f} s"])

    def _say(self, text: str) -> None:
        if self.ranks.is_first:
            click.echo(text, err=True)

    def _save(self) -> None:
        if self.ranks.is_first:
            self.run.save_checkpoint(
                {
                    "trainer": self.trainer.state_dict(),
                    "final_model": self.trainer.final_model.state_dict(),
                    "epoch": self.epochs_done,
                    "seconds": self.seconds,
                }
            )


def _test_scores(evaluation: Evaluation) -> dict[str, float]:
    scores = {f"test/accuracy/{name}": value for name, value in evaluation.accuracies.items()}
    scores |= {f"test/information/{factor.name}": factor.information for factor in evaluation.factors}
    return scores | {"test/reconstruction": evaluation.reconstruction, "test/kl_z": evaluation.kl_z}


def _require_same(asked: TrainConfig, stored: TrainConfig) -> None:
    """Refuse to continue a run under another configuration."""
    before, now = _flat(stored.to_dict()), _flat(asked.to_dict())
    differing = {key: value for key, value in before.items() if now.get(key) != value}
    if before != now:
        told = ", ".join(f"{key} {value!r}" for key, value in differing.items()) or "fewer settings"
        raise RunError(f"--resume continues a run as it began, and this one has {told}; leave the options as they were")


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
