"""The command `partedvae describe`. It imports PyTorch when it runs, so that --help is fast."""

from __future__ import annotations

from pathlib import Path

import click

from partedvae.training.cli.command import ErrorReportingCommand
from partedvae.training.cli.options import (
    complete_dataset,
    configure,
    data_option,
    method_option,
    recipe_option,
    resolve_dataset,
    set_option,
)


@click.command(cls=ErrorReportingCommand)
@click.argument("dataset", shell_complete=complete_dataset)
@recipe_option
@method_option
@set_option
@data_option
def describe(dataset: str, recipe: str, method: str, settings: tuple[str, ...], data_dir: Path) -> None:
    """Show a recipe: the layers with their shapes, and the hyperparameters (Tables 3 and 6 of the paper)."""
    from partedvae.training.reports.describe import describe_config

    config, info = configure(resolve_dataset(dataset), recipe, method, settings, data_dir)
    click.echo(describe_config(config, info.train_images))
