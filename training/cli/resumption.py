"""The run that `partedvae train --resume` continues, and its configuration with what the command line has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from partedvae.training.config.train_config import TrainConfig
    from partedvae.training.runs.directory import RunDirectory


def given_options(ctx: click.Context, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given, on the command line or by an environment variable, without their defaults."""
    unset = (ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP)
    return {name: value for name, value in options.items() if ctx.get_parameter_source(name) not in unset}


def arguments_of(dataset: str | None, resume: str | None, output: Path | None) -> tuple[str | None, Path | None]:
    """Return data set and run directory of a command line.

    Args:
        dataset: DATASET; None where it is not given.
        resume: the value of --resume; empty without a value, None without the option.
        output: --output.

    Raises:
        click.UsageError: neither says what to train, or two run directories are given.
    """
    if resume and dataset is None and output is not None:
        dataset, resume = resume, ""  # "--resume DATASET --output RUN_DIR": the value is the argument.
    if resume and output not in (None, Path(resume)):
        raise click.UsageError(f"--resume {resume} and --output {output} are two run directories; pass one of them")
    output = Path(resume) if resume else output
    if dataset is None and resume is None:
        raise click.UsageError("Missing argument 'DATASET'; choose a name from 'partedvae data list', or folder:PATH")
    if dataset is None and output is None:
        raise click.UsageError("--resume needs the run: --resume RUN_DIR")
    return dataset, output


def resumed_config(
    run: RunDirectory, dataset: str | None, given: Mapping[str, Any], settings: tuple[str, ...]
) -> TrainConfig:
    """Return the configuration of a run, changed by what was given; `train_run` refuses a change.

    Args:
        run: the run.
        dataset: name of its data set where it was given, such as the new place of a folder.
        given: fields of the configuration that were given.
        settings: values of --set.

    Raises:
        ValueError: the run cannot be read, its data set does not exist, or a value is out of range.
    """
    import dataclasses

    from partedvae.training.config.overrides import apply_overrides
    from partedvae.training.data.names import FILE_PREFIX, resolve_path
    from partedvae.training.runs.data import run_dataset_name

    stored = run.load_config()
    name = dataset or run_dataset_name(run)
    config = apply_overrides(dataclasses.replace(stored, dataset=name, **given), settings)
    return dataclasses.replace(config, labelled=resolve_path(config.labelled, FILE_PREFIX))
