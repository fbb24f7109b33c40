"""The data set of a run, loaded again: refused where it no longer fits the model, warned of where its files differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from partedvae.training.config.architecture import ModelConfig
from partedvae.training.data.dataset import DataError, DatasetInfo, ImageDataset
from partedvae.training.data.registry import load_dataset
from partedvae.training.runs.directory import RunDirectory


def load_run_dataset(run: RunDirectory, data_dir: Path) -> ImageDataset:
    """Load the data set that a run was trained on.

    Raises:
        ValueError: the run or the data set cannot be had, or the data set no longer fits the run.
    """
    dataset = load_dataset(run.load_config().dataset, data_dir)
    check_run_dataset(run, dataset)
    return dataset


def check_run_dataset(run: RunDirectory, dataset: ImageDataset) -> None:
    """Compare a data set as it is now with what the run was trained on, and warn on stderr of files that differ.

    Raises:
        RunError: the run cannot be read.
        DataError: image size, factors or classes are not the run's.
    """
    config = run.load_config()
    differing = "; ".join(_misfits(config.model, dataset.info))
    if differing:
        raise DataError(
            f"{config.dataset} is not what {run.path} was trained on: {differing}; "
            "bring the data set back as it was, or train a new run"
        )
    changed = "; ".join(_changes(run.load_provenance()["data"], dataset.source))
    if changed:
        warning = f"warning: {config.dataset} has changed since {run.path} was trained: {changed}"
        click.secho(warning, fg="yellow", err=True)


def is_drawn(origin: str) -> bool:
    """Say whether what a data set's source tells of a file is that it was drawn, and is not the original."""
    return "drawn" in origin


def _misfits(model: ModelConfig, info: DatasetInfo) -> Iterator[str]:
    """Tell what the model cannot be used with: it knows factors and classes by their places alone."""
    if info.image_size != model.image_size:
        yield f"its images are {_size(info.image_size)}, and the run's {_size(model.image_size)}"
    if not model.factors:
        return  # a baseline, which has z alone, whatever is labelled
    now, then = [factor.name for factor in info.factors], [factor.name for factor in model.factors]
    if now != then:
        yield f"its factors are {_listed(now)}, and the run's {_listed(then)}"
        return
    for factor, trained in zip(info.factors, model.factors, strict=True):
        if factor.classes != trained.classes:
            yield (
                f"the classes of its factor {factor.name!r} are {_listed(factor.classes)}, "
                f"and the run's {_listed(trained.classes)}"
            )


def _changes(then: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """Tell which sources differ."""
    for name in [*then, *(name for name in now if name not in then)]:
        if name not in now:
            yield f"{name!r} is gone"
        elif name not in then:
            yield f"{name!r} is new"
        elif _identity(then[name]) != _identity(now[name]):
            yield f"{name!r} is {_told(now[name])}, and was {_told(then[name])}"


def _identity(origin: str) -> str:
    """Return what of an origin tells one file from another."""
    # What else is said of drawn data is in the file's name already, or depends on --data: where an original would be.
    return "drawn" if is_drawn(origin) else origin


def _told(origin: str) -> str:
    return "drawn" if is_drawn(origin) else f"the file of SHA-256 {origin[:12]}"


def _size(size: tuple[int, int, int]) -> str:
    return "x".join(map(str, size))


def _listed(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
