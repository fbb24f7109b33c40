"""The commands `partedvae data …`. They import PyTorch when they run, so that --help is fast."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from partedvae.training.cli.command import ErrorReportingCommand
from partedvae.training.cli.options import complete_dataset, data_option, fit_option

if TYPE_CHECKING:
    from partedvae.common.fit import Fit


@click.group()
def data() -> None:
    """List, download and check data sets."""


@data.command("list", cls=ErrorReportingCommand)
@data_option
def list_command(data_dir: Path) -> None:
    """List the data sets and whether their files are present."""
    from partedvae.training.data.summary import list_datasets

    click.echo(list_datasets(data_dir))


@data.command(cls=ErrorReportingCommand)
@click.argument("name", shell_complete=complete_dataset)
@data_option
def get(name: str, data_dir: Path) -> None:
    """Download or draw a data set, and verify it."""
    from partedvae.training.data.registry import load_dataset

    dataset = load_dataset(name, data_dir)
    for note in dataset.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(f"{name} is ready: {len(dataset.train):,} training and {len(dataset.test):,} test images")


@data.command(cls=ErrorReportingCommand)
@click.argument("name", shell_complete=complete_dataset)
@fit_option
@data_option
def check(name: str, fit: Fit | None, data_dir: Path) -> None:
    """Verify a data set and show its contents.

    Downloads or draws the data set where it is missing. For your own images: partedvae data check folder:PATH
    """
    from partedvae.common.fit import DEFAULT_FIT
    from partedvae.training.data.names import check_fit
    from partedvae.training.data.registry import entry
    from partedvae.training.data.summary import summarise

    found = entry(name, fit or DEFAULT_FIT)
    check_fit(name, fit)
    click.echo(summarise(found.load(data_dir)))
