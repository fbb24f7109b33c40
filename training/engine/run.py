"""Training of a whole run: its configuration, data and directory are prepared, or restored, and its loop runs."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
from jaxtyping import Int
from torch import Tensor

from partedvae.training.config.train_config import TrainConfig
from partedvae.training.data.dataset import UNLABELLED, Split, count_labels
from partedvae.training.data.labelled import choose_labelled
from partedvae.training.data.priors import estimated_prior
from partedvae.training.data.registry import load_dataset
from partedvae.training.distributed import DistributedContext, launch
from partedvae.training.engine.device import choose_device, choose_precision, prepare
from partedvae.training.engine.groups import GroupLabels, group_labels
from partedvae.training.engine.loop import TrainingLoop
from partedvae.training.engine.resume import require_resumable, resumed_precision
from partedvae.training.engine.threads import use_threads
from partedvae.training.engine.trainer import Trainer
from partedvae.training.runs.data import check_run_dataset, label_use, select_train_images
from partedvae.training.runs.directory import RunDirectory


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
        ValueError: the data set is not available, the configuration does not match it, the directory does not match, or
            another process trains the run.
        KeyboardInterrupt: a signal asked to stop; the checkpoint has been written.
    """
    device = choose_device(device_name).type
    if resume and config.precision in ("auto", run.load_config().precision):
        config = dataclasses.replace(config, precision=resumed_precision(run, device))
    config = dataclasses.replace(config, precision=choose_precision(device, config.precision))
    context = launch(device, config.precision)
    with run.locked() if context.is_main_process else nullcontext():
        loop = _prepare_loop(config, run, data_dir, context, threads, resume=resume)
        loop.train()
        return loop.finish(data_dir if measured else None) if context.is_main_process else {}


def _prepare_loop(
    config: TrainConfig,
    run: RunDirectory,
    data_dir: Path,
    context: DistributedContext,
    threads: int | None,
    *,
    resume: bool,
) -> TrainingLoop:
    """Load the data, and start the run directory and the model, or restore them from the directory."""
    main = context.is_main_process
    if not resume and main:
        run.require_new()
    with context.main_process_first():
        dataset = load_dataset(config.dataset, data_dir, config.fit, label_use(config))
    if main:
        for note in dataset.notes:
            click.echo(f"note: {note}", err=True)
    if resume:
        # Before labels are chosen, which a changed data set may not have.
        check_run_dataset(run, dataset, config.dataset, resuming=True)
    train = select_train_images(config, dataset)
    labelled = choose_labelled(train, dataset.truth, config.labels, config.labelled, config.seed)
    if main:
        for warning in classes_without_labels(config, train.labels[labelled]):
            click.secho(f"warning: {warning}", fg="yellow", err=True)
    config = with_priors(config, train.labels[labelled])
    if resume:
        require_resumable(run, config, labelled)
        if main:
            run.add_device(context.device_name)
    choice = use_threads(threads, run.load_provenance() if resume else None)
    if main:
        click.echo(f"threads: {choice.threads} ({choice.reason})", err=True)
    with context.main_process_first():
        groups = _groups(config, run, train, labelled, stored=resume or not main, store=main)
    if groups is not None and main:
        _print_groups(groups, config)
    prepare(config.seed)
    trainer = Trainer(config, train, labelled, context, groups)
    if not resume and main:
        counts = None if groups is None else _group_counts(groups, config)
        run.start(config, dataset, labelled, context.device_name, counts)
    elif main and run.load_config().dataset != config.dataset:
        run.save_config(config)  # the new place of a folder that has moved
    seconds, epochs = 0.0, 0
    if resume and run.checkpoint_file.exists():
        checkpoint = run.load_checkpoint(trainer.device)
        trainer.load_state_dict(checkpoint["trainer"])
        seconds, epochs = checkpoint["seconds"], checkpoint["epoch"]
    else:
        started = time.perf_counter()
        trainer.warm_start()
        seconds = time.perf_counter() - started
    return TrainingLoop(run, trainer, dataset, seconds, epochs)


def classes_without_labels(config: TrainConfig, labels: Int[Tensor, "labelled factors"]) -> Iterator[str]:
    """Yield a warning for each factor of which some classes have labels and others none."""
    for k, factor in enumerate(config.model.factors if len(labels) else ()):
        known = set(labels[:, k].tolist()) - {UNLABELLED}
        missing = [repr(name) for c, name in enumerate(factor.classes) if c not in known]
        if known and missing:
            yield (
                f"none of the {len(labels):,} labelled images is of {factor.name} {', '.join(missing)}; choose others "
                "with --labelled balanced or stratified, or more with --labels"
            )


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
    counts = count_labels(groups.labels)
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
