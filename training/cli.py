"""The commands of training. Imports of PyTorch are inside the commands, so that asking for help is fast."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from training.config import TrainConfig

data_option = click.option(
    "--data",
    "data_dir",
    type=click.Path(path_type=Path),
    default=Path("data"),
    show_default=True,
    help="Folder of the data sets.",
)
recipe_option = click.option(
    "--recipe", default="default", show_default=True, help="Named configuration: default or paper."
)
set_option = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change one field, like objective.gamma_bc=0."
)


@click.command()
@click.argument("dataset")
@recipe_option
@click.option("--labels", type=int, help="Labelled images to use; 0 trains without labels.  [default: the recipe's]")
@click.option("--seed", type=int, default=0, show_default=True, help="Of weights, batches and noise.")
@click.option("--epochs", type=int, help="Passes over the training images.  [default: the recipe's]")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Run directory.  [default: runs/DATASET-RECIPE-SEED]",
)
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where to train."
)
@click.option("--resume", is_flag=True, help="Go on where this run stopped.")
@set_option
@data_option
def train(
    dataset: str,
    recipe: str,
    labels: int | None,
    seed: int,
    epochs: int | None,
    output: Path | None,
    device: str,
    resume: bool,
    settings: tuple[str, ...],
    data_dir: Path,
) -> None:
    """Train on a data set, into a run directory."""
    # Threads of GNU OpenMP that wait spin by default; beside any other busy program that makes steps ten times slower.
    # Read when PyTorch is loaded, which happens with the next import.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    from training.loop import train_run
    from training.run import RunDirectory

    run = RunDirectory(output or Path("runs") / f"{dataset}-{recipe}-{seed}")
    try:
        config = _configure(dataset, recipe, settings, labels=labels, seed=seed, epochs=epochs)
        summary = train_run(config, run, data_dir, device, resume=resume)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    accuracies = ", ".join(f"{name} {value:.2%}" for name, value in summary["accuracy"].items())
    click.echo(f"{run.path}: test accuracy {accuracies} from {config.labels} labels, {summary['train_seconds']:.0f} s")
    click.echo(f"next: partedvae export {run.path} models/{dataset}")


@click.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option(
    "--predictions",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write every test image's class, as .npz.",
)
@data_option
def evaluate(run_dir: Path, as_json: bool, predictions: Path | None, data_dir: Path) -> None:
    """Score a run's model on the test images."""
    from training.report import evaluate_run, render_evaluation, report_as_json, write_predictions

    try:
        evaluation, config = evaluate_run(run_dir, data_dir)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    if predictions is not None:
        write_predictions(predictions, evaluation)
    click.echo(report_as_json(evaluation) if as_json else render_evaluation(evaluation, config))


@click.command()
@click.argument("dataset")
@recipe_option
@set_option
@data_option
def describe(dataset: str, recipe: str, settings: tuple[str, ...], data_dir: Path) -> None:
    """Show a recipe: layers with shapes, and hyperparameters (the paper's Tables 3 and 6)."""
    from training.data.registry import entry
    from training.describe import describe_config

    try:
        config = _configure(dataset, recipe, settings)
        info = entry(dataset).describe(data_dir)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    click.echo(describe_config(config, info.train_images))


def _configure(dataset: str, recipe_name: str, settings: tuple[str, ...], **options: Any) -> TrainConfig:
    """Build the configuration: the recipe, then the options that were given, then --set."""
    import dataclasses

    from training.overrides import apply_overrides
    from training.presets import recipe

    given = {name: value for name, value in options.items() if value is not None}
    return apply_overrides(dataclasses.replace(recipe(dataset, recipe_name), **given), settings)
