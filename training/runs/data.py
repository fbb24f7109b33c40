"""The data set of a run: loaded, compared with the one that it was trained on, and reduced to its training images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import torch

from partedvae.training.config.architecture import ModelConfig
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.data.dataset import CLUSTERS, DataError, DatasetInfo, ImageDataset, LabelUse, Split, size_text
from partedvae.training.data.names import FOLDER
from partedvae.training.data.registry import load_dataset
from partedvae.training.runs.directory import RunDirectory, RunError

MOST_LABELLED = 1_000
"""Maximum number of labelled images that are compared with a model's predictions."""


def load_run_dataset(run: RunDirectory, data_dir: Path, name: str | None = None) -> ImageDataset:
    """Load the data set that a run was trained on.

    Args:
        run: the run directory.
        data_dir: folder of the data sets.
        name: name of the data set where its folder has moved since; None takes that of the run.

    Raises:
        ValueError: the run or the data set is not available, or the data set no longer matches the run.
    """
    name = name or run_dataset_name(run)
    config = run.load_config()
    dataset = load_dataset(name, data_dir, config.fit, label_use(config))
    check_run_dataset(run, dataset, name)
    return dataset


def label_use(config: TrainConfig) -> LabelUse:
    """Return whether the labels of a folder are needed for a run; those that were added later are not."""
    if config.labels:
        return "required"
    return "ignored" if [factor.name for factor in config.model.factors] == [CLUSTERS.name] else "optional"


def run_dataset_name(run: RunDirectory) -> str:
    """Return the name of the data set of a run.

    Raises:
        RunError: the run cannot be read.
        DataError: it is a folder that does not exist any more.
    """
    name = run.load_config().dataset
    if name.startswith(FOLDER) and not Path(name.removeprefix(FOLDER)).exists():
        raise DataError(
            f"{name}, which {run.path} was trained on, does not exist; if the folder has moved, pass its new place: "
            f"{FOLDER}PATH as --dataset, or as DATASET of 'partedvae train --resume'"
        )
    return name


def differences(run: RunDirectory, dataset: ImageDataset) -> str:
    """Return how the files of a data set differ from those that a run was trained on; empty if they are the same."""
    return "; ".join(_changes(run.load_provenance()["data"], dataset.source))


def check_run_dataset(
    run: RunDirectory, dataset: ImageDataset, name: str | None = None, *, resuming: bool = False
) -> None:
    """Compare a data set with the one that the run was trained on; print a warning if its files differ.

    Args:
        run: the run directory.
        dataset: the data set as it is now.
        name: its name, for messages; None takes that of the run.
        resuming: whether the run is to continue with it, which other files would make another run.

    Raises:
        RunError: the run cannot be read, or it is to continue with other files.
        DataError: image size, factors or classes differ from those of the run.
    """
    config = run.load_config()
    name = name or config.dataset
    mismatches = "; ".join(_mismatches(config.model, dataset.info))
    if mismatches:
        raise DataError(
            f"{name} does not match the data that {run.path} was trained on: {mismatches}; "
            "restore the data set, or train a new run"
        )
    changed = differences(run, dataset)
    if changed and resuming:
        raise RunError(
            f"cannot resume: {name} is not the data that {run.path} was started with: {changed}; restore these files, "
            "or train a new run with another --output"
        )
    if changed:
        verb = "has changed since" if name == config.dataset else "differs from the data on which"
        warning = f"warning: {name} {verb} {run.path} was trained: {changed}"
        click.secho(warning, fg="yellow", err=True)


def select_train_images(config: TrainConfig, dataset: ImageDataset) -> Split:
    """Return the first `config.train_images` training images, or all of them for 0.

    Raises:
        DataError: there are fewer.
    """
    if config.train_images > len(dataset.train):
        raise DataError(
            f"train_images is {config.train_images}; {config.dataset} has {len(dataset.train)} training images"
        )
    return dataset.train.first(config.train_images) if config.train_images else dataset.train


def labelled_images(run: RunDirectory, dataset: ImageDataset) -> Split | None:
    """Return labelled training images of a run, some of them where there are many.

    Args:
        run: the run directory.
        dataset: its data set.

    Returns:
        The images; None if there are none, or if the files of the data set have changed, so that their indices may be
        those of others.
    """
    indices = torch.tensor(run.load_provenance().get("labelled_images", []), dtype=torch.int64)
    if not len(indices) or differences(run, dataset):
        return None
    return dataset.train.take(indices[:: -(-len(indices) // MOST_LABELLED)])


def is_drawn(origin: str) -> bool:
    """Return whether the origin of a file, from the source of a data set, marks it as drawn instead of original."""
    return "drawn" in origin


def _mismatches(model: ModelConfig, info: DatasetInfo) -> Iterator[str]:
    """Yield the differences that make the model unusable: it identifies factors and classes by position."""
    if info.image_size != model.image_size:
        yield f"its images are {size_text(info.image_size)}, those of the run {size_text(model.image_size)}"
    if not model.factors:
        return  # A baseline has z alone and uses no labels.
    now, then = [factor.name for factor in info.factors], [factor.name for factor in model.factors]
    if now != then:
        yield f"its factors are {_listed(now)}, those of the run {_listed(then)}"
        return
    for factor, trained in zip(info.factors, model.factors, strict=True):
        if factor.classes != trained.classes:
            yield (
                f"the classes of its factor {factor.name!r} are {_listed(factor.classes)}, "
                f"those of the run {_listed(trained.classes)}"
            )


def _changes(then: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """Yield the files whose origin differs."""
    for name in [*then, *(name for name in now if name not in then)]:
        if name not in now:
            yield f"{name!r} is missing"
        elif name not in then:
            yield f"{name!r} is new"
        elif _identity(then[name]) != _identity(now[name]):
            yield f"{name!r} is {_describe(now[name])}, and was {_describe(then[name])}"


def _identity(origin: str) -> str:
    """Return the part of an origin that identifies the content of a file."""
    # The rest of the origin of drawn data is in its name already, or depends on --data (the path of an original).
    return "drawn" if is_drawn(origin) else origin


def _describe(origin: str) -> str:
    return "drawn" if is_drawn(origin) else f"the file with SHA-256 {origin[:12]}"


def _listed(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
