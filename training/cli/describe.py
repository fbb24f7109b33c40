"""The command `partedvae describe`. It imports PyTorch when it runs, so that --help is fast."""

from __future__ import annotations

from pathlib import Path

import click

from partedvae.training.cli.command import ErrorReportingCommand
from partedvae.training.cli.options import (
    complete_dataset,
    configure,
    data_option,
    fit_option,
    method_option,
    recipe_option,
    set_option,
)
from partedvae.training.cli.resumption import given_options
from partedvae.training.data.names import resolve_path


@click.command(cls=ErrorReportingCommand)
@click.argument("dataset", metavar="DATASET|RUN_DIR", shell_complete=complete_dataset)
@recipe_option
@method_option
@fit_option
@set_option
@data_option
@click.pass_context
def describe(
    ctx: click.Context,
    dataset: str,
    recipe: str,
    method: str,
    fit: str | None,
    settings: tuple[str, ...],
    data_dir: Path,
) -> None:
    """Show the recipe of a data set, or the configuration of a run.

    Shows the layers with their shapes, and the hyperparameters, as Tables 3 and 6 of the paper do.
    """
    from partedvae.common.runs.nearby import CONFIG_FILE, runs_in
    from partedvae.training.reports.describe import describe_config, describe_run
    from partedvae.training.runs.directory import RunDirectory

    if (Path(dataset) / CONFIG_FILE).is_file() or runs_in(Path(dataset)):
        given = given_options(ctx, {"recipe": recipe, "method": method, "fit": fit, "settings": settings})
        if given:
            options = ", ".join("--set" if name == "settings" else f"--{name}" for name in given)
            raise click.UsageError(f"{dataset} is a run, whose configuration is shown as it is; omit {options}")
        click.echo(describe_run(RunDirectory(Path(dataset)), data_dir))
        return
    config, info = configure(resolve_path(dataset), recipe, method, settings, data_dir, fit=fit)
    click.echo(describe_config(config, info.train_images))
