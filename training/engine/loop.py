"""The epochs of a run, with evaluation, logging and checkpoints, and its summary."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

import click
from torch import Tensor

from partedvae.common.atomic_write import write_json
from partedvae.common.progress import progress_bar
from partedvae.training.data.dataset import ImageDataset, Split
from partedvae.training.engine.metrics_logger import MetricsLogger
from partedvae.training.engine.signals import StopFlag, stop_on_signals
from partedvae.training.engine.trainer import Trainer
from partedvae.training.evaluation.diagnostics import model_warnings, separation_warnings
from partedvae.training.evaluation.evaluation import Evaluation, evaluate
from partedvae.training.evaluation.measures import Measures, measure
from partedvae.training.runs.directory import RunDirectory, RunError

POSTFIX_STEPS = 20
"""Steps between two updates of the losses in the progress bar."""
EPOCH_TEST_IMAGES = 10_000
"""Maximum number of test images of the evaluation after an epoch; the summary uses all of them."""


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
        with MetricsLogger(self.run, self.epochs_done) as logger:
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
                    self._require_finite(self.trainer.summed_losses())
                    self._stop(self._state())
                last_step = self._state()
                losses = self.trainer.end_epoch()
                self._require_finite(losses)
                self.epochs_done += 1
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
        with stop_on_signals() as stop, stop.at_once():
            found = self._warnings(evaluation)
            if data_dir is not None:
                measures = measure(self.trainer.final_model, self.dataset, self.config, evaluation, data_dir)
        broken = separation_warnings(evaluation, measures)
        for warning in broken:
            click.secho(f"warning: {warning}", fg="yellow", err=True)
        images = self.trainer.batches.items_before(self.trainer.step)
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
            # Those of the method: the classifier alone has a step per batch, but uses none of its images.
            **({} if self.trainer.method is None else {"train_images_per_second": round(images / seconds, 1)}),
            # Absent rather than empty where nothing was measured.
            **({} if data_dir is None else {"measures": measures.flat()}),
            "warnings": found + broken,
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
            losses: dict[str, Tensor] = {}
            for step in range(first_step, steps):
                # Not every step has a supervised one, whose latest loss is shown.
                losses |= trainer.train_step()
                if step % POSTFIX_STEPS == 0:
                    shown = [name for name in ("loss", "reconstruction", "supervised") if name in losses]
                    bar.set_postfix({name: f"{losses[name].item():.4g}" for name in shown}, refresh=False)
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
        """Check the losses of the current epoch, their means or sums, before the checkpoint is replaced.

        Raises:
            RunError: a loss is infinite or NaN.
        """
        diverged = [name for name, value in losses.items() if not math.isfinite(value)]
        if diverged:
            kept = f"; {self.run.path} keeps its last checkpoint" if self.run.checkpoint_file.exists() else ""
            raise RunError(
                f"training diverged in epoch {self.epochs_done + 1} (not finite: {', '.join(diverged)}); lower "
                f"optimiser.learning_rate or try another --seed, with a new --output{kept}"
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
                found = self._warnings(evaluation)
        except KeyboardInterrupt:
            self._stop(last_step)
        # Before the checkpoint: a process that is killed in between writes the line again, and none is lost.
        logger.log(self.epochs_done, self.trainer.step, losses, evaluation)
        self.run.save_checkpoint(self._state())
        click.echo(self._epoch_line(losses, evaluation), err=True)
        for warning in found:
            click.secho(f"warning: {warning}", fg="yellow", err=True)

    def _evaluate(self, test: Split) -> Evaluation:
        return evaluate(self.trainer.final_model, test, self.config, self.run.load_label_counts())

    def _warnings(self, evaluation: Evaluation) -> list[str]:
        return model_warnings(self.trainer.final_model, evaluation, self.run, self.dataset)

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
