"""The command `partedvae train`. It imports PyTorch when it runs, so that --help is fast."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from partedvae.common.click_paths import LocalPath
from partedvae.training.cli.command import ErrorReportingCommand
from partedvae.training.cli.options import (
    complete_dataset,
    configure,
    data_option,
    device_option,
    fit_option,
    limit_openmp_spinning,
    method_option,
    recipe_option,
    set_option,
    threads_option,
)
from partedvae.training.cli.resumption import arguments_of, given_options, resumed_config
from partedvae.training.data.names import FOLDER, resolve_path

FEW_LABELS = 5
"""Labels per class with fewer of which labels of groups are proposed: with one, MNIST gains 20 points of accuracy."""


@click.command(cls=ErrorReportingCommand)
@click.argument("dataset", required=False, shell_complete=complete_dataset)
@recipe_option
@method_option
@click.option("--labels", type=int, help="Number of labelled images; 0 trains without labels.  [default: the recipe's]")
@click.option(
    "--labelled",
    help="Which images are labelled: first, random, stratified, balanced, or file:PATH, a text file with one training "
    "image per line: its index, counted from 0, or its file name as in labels.csv.  [default: the recipe's]",
)
@click.option(
    "--features",
    "features_run",
    type=LocalPath(path_type=Path, file_okay=False),
    metavar="RUN_DIR",
    help="For few labels: a run of the recipe features on the same images, such as the one that 'partedvae suggest' "
    "has trained. Images that it groups with labelled ones get their labels.",
)
@click.option(
    "--priors",
    type=click.Choice(["given", "uniform", "estimated"]),
    help="Class prior p(c): given by the data set, uniform, or estimated from the labels.  [default: the recipe's]",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Random seed of the weights, the batches and the noise."
)
@fit_option
@click.option("--epochs", type=int, help="Passes over the training images.  [default: the recipe's]")
@click.option(
    "--output",
    type=LocalPath(path_type=Path, file_okay=False),
    help="Run directory.  [default: runs/DATASET-RECIPE[-METHOD]-SEED]",
)
@device_option
@threads_option
@click.option(
    "--precision",
    type=click.Choice(["auto", "32-true", "bf16-mixed"]),
    help="Floating-point precision; bf16-mixed needs a GPU, or a CPU with avx512_bf16 or amx_bf16, and auto selects it "
    "there. On a GPU, 32-true multiplies in TensorFloat-32.  [default: the recipe's]",
)
@click.option(
    "--resume",
    is_flag=False,
    flag_value="",
    metavar="[RUN_DIR]",
    help="Continue the interrupted run in RUN_DIR, or in --output, from its last checkpoint. Data set and options are "
    "those of the run; a DATASET is needed only if its folder has moved.",
)
@click.option(
    "--measure/--no-measure",
    "measured",
    default=True,
    show_default=True,
    help="After training, measure whether u and not z has the class, in about a minute; the results are exported too.",
)
@set_option
@data_option
@click.pass_context
def train(
    ctx: click.Context,
    dataset: str | None,
    recipe: str,
    method: str,
    labels: int | None,
    labelled: str | None,
    features_run: Path | None,
    priors: str | None,
    seed: int,
    fit: str | None,
    epochs: int | None,
    output: Path | None,
    device: str,
    threads: int | None,
    precision: str | None,
    resume: str | None,
    measured: bool,
    settings: tuple[str, ...],
    data_dir: Path,
) -> None:
    """Train a model on a data set and write a run directory.

    DATASET is a name from 'partedvae data list', or folder:PATH for your own images. 'partedvae train --resume RUN_DIR'
    continues an interrupted run. To train with several processes, start this command with torchrun.
    """
    limit_openmp_spinning()
    from partedvae.common.runs.nearby import CONFIG_FILE
    from partedvae.training.runs.directory import RunDirectory

    dataset, output = arguments_of(dataset, resume, output)
    if dataset and resume is None and (Path(dataset) / CONFIG_FILE).is_file():
        raise click.UsageError(f"{dataset} is a run, not a data set; continue it with --resume {dataset}")
    dataset = resolve_path(dataset) if dataset else None
    run = RunDirectory(output or _run_path(dataset or "", recipe, method, seed))
    options = {
        "labels": labels,
        "labelled": labelled,
        "features_run": None if features_run is None else str(features_run.resolve()),
        "priors": priors,
        "seed": seed,
        "fit": fit,
        "epochs": epochs,
        "precision": precision,
    }
    if resume is None:
        assert dataset is not None
        config, _ = configure(dataset, recipe, method, settings, data_dir, **options)
    else:
        given = given_options(ctx, {**options, "recipe": recipe, "method": method})
        config = resumed_config(run, dataset, given, settings)
    # Imported here, so that a wrong option is reported without waiting for it.
    from partedvae.training.engine.run import train_run

    summary = train_run(config, run, data_dir, device, threads, resume=resume is not None, measured=measured)
    if not summary:
        return  # not the main process
    accuracies = ", ".join(f"{name} {text}" for name, text in summary["accuracy_text"].items())
    if accuracies:
        groups = " and those of groups" if config.features_run else ""
        result = f"test accuracy {accuracies} from {config.labels} labels{groups}"
    elif config.labels:
        result = f"{config.method} from {config.labels} labels, no labelled test images"
    else:
        result = f"{config.method} without labels"
    click.echo(f"{run.path}: {result}, {summary['train_seconds']:.0f} s")
    for name in summary["accuracy"]:
        if line := _measured_line(name, summary.get("measures", {})):
            click.echo(line)
    exportable = config.method == "partedvae"
    words = ["export", str(run.path), f"models/{_model_name(config.dataset)}"]
    follow_up = words if exportable else ["evaluate", str(run.path)]
    click.echo(f"next: {shlex.join(['partedvae', *follow_up])}")
    most_classes = max((len(factor.classes) for factor in config.model.factors), default=0)
    if exportable and not config.features_run and 0 < config.labels < FEW_LABELS * most_classes:
        features = _run_path(config.dataset, "features", config.method, 0)
        command = ["partedvae", "train", config.dataset, "--recipe", "features", "--output", str(features)]
        click.echo(
            f"few labels: those of groups may help. {shlex.join(command)} trains their features without labels; then "
            f"train again with --features {shlex.quote(str(features))} and another --output"
        )


def _measured_line(name: str, measures: dict[str, float]) -> str:
    """Return the main measures of a factor in one line; empty if nothing was measured."""
    parts = []
    if (drawn := measures.get(f"generation/{name}")) is not None:
        parts.append(f"{drawn:.1%} of the images drawn for a class show it")
    if (from_u := measures.get(f"probe_u_mlp/{name}")) is not None:
        from_z, chance = measures[f"probe_z_mlp/{name}"], measures[f"probe_chance/{name}"]
        parts.append(f"a network predicts it from u in {from_u:.1%}, from z in {from_z:.1%} (chance {chance:.1%})")
    return f"{name}: {'; '.join(parts)}" if parts else ""


def _model_name(dataset: str) -> str:
    """Return a folder name for a data set: "folder:my/photos" becomes "photos"."""
    return Path(dataset.removeprefix(FOLDER)).name


def _run_path(dataset: str, recipe: str, method: str, seed: int) -> Path:
    parts = [_model_name(dataset), recipe, *([] if method == "partedvae" else [method]), str(seed)]
    return Path("runs") / "-".join(parts)
