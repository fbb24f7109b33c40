"""The commands about data sets. Imports of PyTorch are inside the commands, so that asking for help is fast."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from partedvae.training.cli.train import data_option


@click.group()
def data() -> None:
    """List data sets, get them, check them."""


@data.command("list")
@data_option
def list_command(data_dir: Path) -> None:
    """List the data sets and whether they are there."""
    from partedvae.training.data.summary import list_datasets

    with _errors_shown():
        click.echo(list_datasets(data_dir))


@data.command()
@click.argument("name")
@data_option
def get(name: str, data_dir: Path) -> None:
    """Fetch or draw a data set, and verify it."""
    from partedvae.training.data.registry import load_dataset

    with _errors_shown():
        dataset = load_dataset(name, data_dir)
    click.echo(f"{name} is ready: {len(dataset.train):,} training and {len(dataset.test):,} test images")


@data.command()
@click.argument("name")
@data_option
def check(name: str, data_dir: Path) -> None:
    """Load and verify a data set, and show what is in it.

    It is fetched or drawn when it is not there. For your own images: partedvae data check folder:PATH
    """
    from partedvae.training.data.registry import load_dataset
    from partedvae.training.data.summary import summarise

    with _errors_shown():
        click.echo(summarise(load_dataset(name, data_dir)))


@contextmanager
def _errors_shown() -> Iterator[None]:
    """Show what the user can mend as a message, without a traceback."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
