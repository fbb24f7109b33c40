"""The commands of training. Imports of PyTorch are inside the commands, so that asking for help is fast."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from partedvae.training.config.train_config import TrainConfig
    from partedvae.training.data.dataset import DatasetInfo

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
method_option = click.option(
    "--method",
    default="partedvae",
    show_default=True,
    help="partedvae, a baseline (vae, beta-vae, beta-tcvae, factor-vae), or classifier (labels alone).",
)
set_option = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change one field, like objective.gamma_bc=0."
)


@click.command()
@click.argument("dataset")
@recipe_option
@method_option
@click.option("--labels", type=int, help="Labelled images to use; 0 trains without labels.  [default: the recipe's]")
@click.option(
    "--labelled",
    help="Which images are labelled: first, stratified, balanced, or file:PATH, a text file with a training image a "
    "line: its index, counted from 0, or its file name as in labels.csv.  [default: the recipe's]",
)
@click.option(
    "--priors",
    type=click.Choice(["given", "uniform", "estimated"]),
    help="p(c): the data set's own, uniform, or from the labels.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of weights, batches and noise.")
@click.option("--epochs", type=int, help="Passes over the training images.  [default: the recipe's]")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Run directory.  [default: runs/DATASET-RECIPE[-METHOD]-SEED]",
)
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where to train."
)
@click.option("--precision", type=click.Choice(["32-true", "bf16-mixed"]), help="Arithmetic; bf16-mixed is for GPUs.")
@click.option("--resume", is_flag=True, help="Go on where this run stopped.")
@set_option
@data_option
def train(
    dataset: str,
    recipe: str,
    method: str,
    labels: int | None,
    labelled: str | None,
    priors: str | None,
    seed: int,
    epochs: int | None,
    output: Path | None,
    device: str,
    precision: str | None,
    resume: bool,
    settings: tuple[str, ...],
    data_dir: Path,
) -> None:
    """Train on a data set, into a run directory.

    DATASET is one of 'partedvae data list', or folder:PATH for images of your own. Several processes train together
    when torchrun starts this command.
    """
    share_processors()
    from partedvae.training.engine.loop import train_run
    from partedvae.training.runs.directory import RunDirectory

    dataset = _resolved(dataset)
    run = RunDirectory(output or _run_path(dataset, recipe, method, seed))
    try:
        options = {
            "labels": labels,
            "labelled": labelled,
            "priors": priors,
            "seed": seed,
            "epochs": epochs,
            "precision": precision,
        }
        config, _ = _configure(dataset, recipe, method, settings, data_dir, **options)
        summary = train_run(config, run, data_dir, device, resume=resume)
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    if not summary:
        return  # not the first of several processes
    accuracies = ", ".join(f"{name} {value:.2%}" for name, value in summary["accuracy"].items())
    result = f"test accuracy {accuracies} from {config.labels} labels" if accuracies else f"{method} without labels"
    click.echo(f"{run.path}: {result}, {summary['train_seconds']:.0f} s")
    exportable = method == "partedvae"
    follow_up = f"export {run.path} models/{_model_name(dataset)}" if exportable else f"evaluate {run.path}"
    click.echo(f"next: partedvae {follow_up}")


@click.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option(
    "--predictions",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write every test image's class, as .npz.",
)
@click.option(
    "--truth-images",
    type=click.IntRange(min=0),
    default=40_000,
    show_default=True,
    help="Images for disentanglement scores, where the true factors are known; 0 takes all.",
)
@data_option
def evaluate(run_dir: Path, as_json: bool, predictions: Path | None, truth_images: int, data_dir: Path) -> None:
    """Measure a run: accuracy, probes of u and z, disentanglement scores.

    Accuracy and probes are on the test images; the scores need a data set whose true factors are known.
    """
    from partedvae.training.reports.evaluation import evaluate_run, write_predictions

    try:
        report = evaluate_run(run_dir, data_dir, truth_images)
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    # Before the predictions, so that what took long to measure is not lost when they cannot be written.
    click.echo(report.to_json() if as_json else report.to_text())
    if predictions is not None:
        try:
            write_predictions(predictions, report.evaluation)
        except OSError as error:
            raise click.ClickException(
                f"--predictions {predictions} cannot be written: {error}; name a file in a folder that you can write to"
            ) from error


@click.command()
@click.argument("dataset")
@recipe_option
@method_option
@set_option
@data_option
def describe(dataset: str, recipe: str, method: str, settings: tuple[str, ...], data_dir: Path) -> None:
    """Show a recipe: layers with shapes, and hyperparameters (the paper's Tables 3 and 6)."""
    from partedvae.training.reports.describe import describe_config

    try:
        config, info = _configure(_resolved(dataset), recipe, method, settings, data_dir)
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(describe_config(config, info.train_images))


def share_processors() -> None:
    """Let OpenMP's waiting threads give way to other programs; to be called before PyTorch is imported, which reads it.

    By default they spin, which beside any other busy program makes training steps ten times slower.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def _model_name(dataset: str) -> str:
    """Return a data set's name as a folder's: "folder:my/photos" becomes "photos"."""
    return Path(dataset.removeprefix("folder:")).name


def _resolved(dataset: str) -> str:
    """Make the path of "folder:PATH" absolute, so that the run can be evaluated from anywhere."""
    kind, _, path = dataset.partition(":")
    return f"{kind}:{Path(path).resolve()}" if kind == "folder" and path else dataset


def _run_path(dataset: str, recipe: str, method: str, seed: int) -> Path:
    parts = [_model_name(dataset), recipe, *([] if method == "partedvae" else [method]), str(seed)]
    return Path("runs") / "-".join(parts)


def _configure(
    dataset: str, recipe_name: str, method: str, settings: tuple[str, ...], data_dir: Path, **options: Any
) -> tuple[TrainConfig, DatasetInfo]:
    """Build the configuration: the recipe, then the options that were given, then --set."""
    import dataclasses
    from typing import cast

    from partedvae.common.suggest import lookup
    from partedvae.training.config.overrides import apply_overrides
    from partedvae.training.config.recipes import recipe
    from partedvae.training.config.train_config import METHODS, MethodName
    from partedvae.training.data.registry import entry

    info = entry(dataset).describe(data_dir)
    lookup("method", method, dict.fromkeys(METHODS))
    config = recipe(info, recipe_name, cast("MethodName", method), options.get("labels"))
    given = {name: value for name, value in options.items() if value is not None}
    return apply_overrides(dataclasses.replace(config, **given), settings), info
