"""A whole run: set up, train epoch by epoch, notice what goes wrong, save; or go on where a process stopped."""

from __future__ import annotations

import time
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import click
from torch.utils.tensorboard import SummaryWriter

from training.config import TrainConfig
from training.data.dataset import ImageDataset, Split, first_labelled
from training.data.registry import load_dataset
from training.device import choose_device, prepare
from training.evaluation import Evaluation, evaluate
from training.files import write_json
from training.health import warnings
from training.interrupts import Interrupts, noticing_interrupts
from training.progress import progress_bar
from training.run import RunDirectory, RunError
from training.trainer import Trainer

POSTFIX_EVERY = 20
"""Steps between two updates of the losses beside the bar."""


def train_run(
    config: TrainConfig, run: RunDirectory, data_dir: Path, device_name: str, *, resume: bool
) -> dict[str, Any]:
    """Train a run to its end and return its summary.

    Raises:
        ValueError: the configuration does not fit the data, the data cannot be had, or the run directory does not fit.
        KeyboardInterrupt: a signal asked to stop; the state was saved first.
    """
    device = choose_device(device_name)
    if resume:
        _require_same(config, run.load_config())
        if run.summary_file.exists():
            raise RunError(f"{run.path} has ended already; raise --epochs in a new --output to train longer")
    dataset = load_dataset(config.dataset, data_dir)
    train = dataset.train.first(config.train_images) if config.train_images else dataset.train
    labelled = first_labelled(train, config.labels)
    prepare(config.seed)
    trainer = Trainer(config, train, labelled, device)
    seconds = 0.0
    if not resume:
        run.start(config, dataset, labelled)
    if resume and run.checkpoint_file.exists():
        state = run.load_checkpoint(device)
        trainer.load_state_dict(state["trainer"])
        seconds = state["seconds"]
    else:
        trainer.warm_start()
    return _Loop(config, run, trainer, dataset, train, seconds).run_all()


class _Loop:
    """The loop over steps, with what happens at the end of each epoch."""

    def __init__(
        self,
        config: TrainConfig,
        run: RunDirectory,
        trainer: Trainer,
        dataset: ImageDataset,
        train: Split,
        seconds: float,
    ) -> None:
        self.config, self.run, self.trainer, self.dataset, self.train = config, run, trainer, dataset, train
        self.seconds_before = seconds
        self.started = time.perf_counter()
        self.epochs_done = trainer.step // trainer.batches.per_pass
        run.keep_metrics_until(self.epochs_done)

    @property
    def seconds(self) -> float:
        """Seconds of training, earlier processes included."""
        return self.seconds_before + time.perf_counter() - self.started

    def run_all(self) -> dict[str, Any]:
        """Train to the end; save and raise KeyboardInterrupt when a signal asks to stop."""
        trainer, summary = self.trainer, {}
        with SummaryWriter(str(self.run.path), purge_step=trainer.step) as writer, noticing_interrupts() as interrupts:
            while trainer.step < trainer.total_steps:
                self._train_epoch(interrupts)
                if interrupts.requested:
                    self._save()
                    click.echo(f"stopped at step {trainer.step}; continue with the same command and --resume", err=True)
                    raise KeyboardInterrupt
                summary = self._end_epoch(writer)
        write_json(self.run.summary_file, summary)
        return summary

    def _train_epoch(self, interrupts: Interrupts) -> None:
        trainer, per_pass = self.trainer, self.trainer.batches.per_pass
        done = trainer.step % per_pass
        images, batch = len(self.train), trainer.batches.batch_size
        title = f"epoch {self.epochs_done + 1}/{self.config.epochs}"
        with progress_bar(images, done=done * batch, unit="img", title=title) as bar:
            for position in range(done, per_pass):
                losses = trainer.train_step()
                if position % POSTFIX_EVERY == 0:
                    bar.set_postfix(
                        loss=f"{losses.loss.item():.1f}",
                        rec=f"{losses.reconstruction.item():.1f}",
                        sup=f"{losses.supervised.item():.3f}",
                        refresh=False,
                    )
                bar.update(min(batch, images - position * batch))
                if interrupts.requested and position + 1 < per_pass:
                    return

    def _end_epoch(self, writer: SummaryWriter) -> dict[str, Any]:
        """Evaluate, report, warn and save; return the summary so far."""
        losses = self.trainer.end_epoch()
        self.epochs_done += 1
        evaluation = evaluate(self.trainer.final_model, self.dataset.test, self.config)
        row = {"epoch": self.epochs_done, "step": self.trainer.step, **losses, **_test_scores(evaluation)}
        for name, value in row.items():
            writer.add_scalar(name, value, self.trainer.step)
        self._save()
        self.run.append_metrics(row)
        accuracies = ", ".join(f"{name} {value:.2%}" for name, value in evaluation.accuracies.items())
        click.echo(
            f"epoch {self.epochs_done}/{self.config.epochs}: loss {losses['loss']:.1f}, "
            f"reconstruction {losses['reconstruction']:.1f}, "
            f"KL z {losses['kl_z']:.2f} u {losses['kl_u']:.2f}, test accuracy {accuracies}, {self.seconds:.0f} s",
            err=True,
        )
        for warning in warnings(evaluation):
            click.secho(f"warning: {warning}", fg="yellow", err=True)
        return {
            "dataset": self.config.dataset,
            "recipe": self.config.recipe,
            "seed": self.config.seed,
            "labels": self.config.labels,
            "epochs": self.epochs_done,
            "accuracy": evaluation.accuracies,
            "train_seconds": round(self.seconds, 1),
            "train_images_per_second": round(self.epochs_done * len(self.train) / self.seconds, 1),
            "warnings": warnings(evaluation),
        }

    def _save(self) -> None:
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
    differing = [f.name for f in fields(TrainConfig) if getattr(asked, f.name) != getattr(stored, f.name)]
    if differing:
        told = {name: asdict(stored)[name] for name in differing if name != "model"}
        raise RunError(f"--resume continues a run as it began, but {', '.join(differing)} differ; the run has {told}")
