"""Options that several benchmark commands have, and what they do with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from benchmarks.serving.tables import replace_section
from partedvae.common.atomic_write import write_json
from partedvae.common.click_paths import LocalPath
from partedvae.serving.bundle import Bundle, load_bundle
from partedvae.serving.bundle_files import versions_of
from partedvae.serving.errors import ServingError

Command = TypeVar("Command", bound=Callable[..., Any])

document_option = click.option("--document", type=LocalPath(path_type=Path), help="Markdown file to update.")


def output_option(*, required: bool = True) -> Callable[[Command], Command]:
    """Return the option --output."""
    return click.option("--output", type=LocalPath(path_type=Path), required=required, help="JSON file to write.")


def model_options(models_help: str = "Folder that holds the models.") -> Callable[[Command], Command]:
    """Return the options --models and --name."""
    models = click.option(
        "--models",
        type=LocalPath(path_type=Path),
        default=Path("demo/models"),
        show_default=True,
        help=models_help,
    )
    name = click.option("--name", default="mnist", show_default=True, help="Name of the model.")
    return lambda command: models(name(command))


def seconds_option(default: float, help_text: str, *, least: float = 0.1) -> Callable[[Command], Command]:
    """Return the option --seconds."""
    return click.option(
        "--seconds", type=click.FloatRange(min=least), default=default, show_default=True, help=help_text
    )


def checkout_options(command: Command) -> Command:
    """Add the options --checkout and --python: whose code to serve, and with which interpreter."""
    checkout = click.option(
        "--checkout",
        type=LocalPath(exists=True, file_okay=False, path_type=Path),
        help="Serve the code of another checkout.  [default: this one]",
    )
    python = click.option("--python", help="Interpreter of the server.  [default: that of this command]")
    return checkout(python(command))


def newest_bundle(models: Path, name: str) -> Bundle:
    """Return the newest version of a model.

    Args:
        models: value of --models.
        name: value of --name.

    Raises:
        click.ClickException: there is none, or it does not work.
    """
    versions = versions_of(models / name)
    if not versions:
        raise click.ClickException(
            f"{models / name} contains no version of a model; 'make demo' writes one to demo/models"
        )
    try:
        return load_bundle(models.resolve() / name / str(versions[-1]))
    except ServingError as error:
        raise click.ClickException(str(error)) from error


def write_results(
    output: Path | None, data: object, document: Path | None = None, section: str = "", text: str = ""
) -> None:
    """Write the results of a benchmark where its options say.

    Args:
        output: value of --output.
        data: content of that file, written as JSON.
        document: value of --document.
        section: name of the section of the document.
        text: its content.

    Raises:
        BenchmarkError: the document has no such section.
    """
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_json(output, data)
    if document:
        replace_section(document, section, text)
