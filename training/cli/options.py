"""Options that several training commands share, and the configuration that they select."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from partedvae.common.click_paths import LocalPath
from partedvae.common.fit import FITS
from partedvae.training.data.names import FILE_PREFIX, FOLDER, NAMES, check_fit, resolve_path

if TYPE_CHECKING:
    from partedvae.training.config.train_config import TrainConfig
    from partedvae.training.data.dataset import DatasetInfo
    from partedvae.training.runs.directory import RunDirectory


def complete_dataset(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the data sets whose names start like an argument; after `folder:` the folders of images."""
    if not incomplete.startswith(FOLDER):
        return [name for name in (*NAMES, FOLDER) if name.startswith(incomplete)]
    path = incomplete.removeprefix(FOLDER)
    parent = Path(path) if path.endswith("/") or not path else Path(path).parent
    if not parent.is_dir():
        return []
    folders = (f"{FOLDER}{entry}" for entry in sorted(parent.iterdir()) if entry.is_dir())
    return [folder for folder in folders if folder.startswith(incomplete)]


data_option = click.option(
    "--data",
    "data_dir",
    type=LocalPath(path_type=Path),
    default=Path("data"),
    show_default=True,
    help="Folder of the data sets.",
)
dataset_option = click.option(
    "--dataset",
    metavar="NAME",
    callback=lambda ctx, param, value: resolve_path(value) if value else None,
    help="The data set of the run, where its folder has moved: folder:PATH.  [default: as recorded in the run]",
)
device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to run the networks; auto is CUDA where it is available.",
)
threads_option = click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Threads of PyTorch.  [default: OMP_NUM_THREADS, or the processors that other programs leave idle]",
)
recipe_option = click.option(
    "--recipe",
    default="default",
    show_default=True,
    help="Named configuration: default, paper, or features, which needs no labels (see 'partedvae suggest').",
)
method_option = click.option(
    "--method",
    default="partedvae",
    show_default=True,
    help="partedvae, a baseline (vae, beta-vae, beta-tcvae, factor-vae), or classifier (labels alone).",
)
fit_option = click.option(
    "--fit",
    type=click.Choice(FITS),
    help="How images of folder:PATH that are not of the model's shape are fitted: stretch does not keep the "
    "proportions, pad adds black borders, crop cuts off what does not fit. The exported model does the same.  "
    "[default: stretch]",
)


def _list_keys(ctx: click.Context, _: click.Parameter, settings: tuple[str, ...]) -> tuple[str, ...]:
    """Print the keys of --set and exit where one of its values is "help"."""
    if "help" in settings and not ctx.resilient_parsing:
        from partedvae.training.config.overrides import describe_keys

        click.echo(describe_keys())
        ctx.exit()
    return settings


set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    is_eager=True,
    callback=_list_keys,
    metavar="KEY=VALUE",
    help="Change one field of the configuration, such as objective.gamma_bc=0; repeatable. 'help' lists the keys.",
)


def configure(
    dataset: str, recipe_name: str, method: str, settings: tuple[str, ...], data_dir: Path, **options: Any
) -> tuple[TrainConfig, DatasetInfo]:
    """Build a configuration: the recipe, then the options that were given, then --set.

    Args:
        dataset: name of the data set.
        recipe_name: name of the recipe.
        method: what is trained.
        settings: values of --set.
        data_dir: folder of the data sets.
        options: fields of the configuration; None leaves the recipe's value.

    Raises:
        ValueError: an unknown name or a value out of range.
    """
    import dataclasses
    from typing import cast

    from partedvae.common.suggest import lookup
    from partedvae.training.config.overrides import apply_overrides
    from partedvae.training.config.recipes import BASELINE_WEIGHTS, UNLABELLED_RECIPE, recipe
    from partedvae.training.config.train_config import METHODS, MethodName
    from partedvae.training.data.registry import entry

    unlabelled = method in BASELINE_WEIGHTS or recipe_name == UNLABELLED_RECIPE or options.get("labels") == 0
    described = entry(dataset, labels="optional" if unlabelled else "required")
    check_fit(dataset, options.get("fit"))
    info = described.describe(data_dir)
    lookup("method", method, dict.fromkeys(METHODS))
    config = recipe(info, recipe_name, cast("MethodName", method), options.get("labels"))
    given = {name: value for name, value in options.items() if value is not None}
    config = apply_overrides(dataclasses.replace(config, **given), settings)
    return dataclasses.replace(config, labelled=resolve_path(config.labelled, FILE_PREFIX)), info


def existing_run(path: Path) -> RunDirectory:
    """Return a run; that there is none is reported before modules are imported that take seconds.

    Raises:
        RunError: it is no run, or its configuration is damaged.
    """
    from partedvae.training.runs.directory import RunDirectory

    run = RunDirectory(path)
    run.load_config()
    return run


def limit_openmp_spinning() -> None:
    """Make OpenMP's waiting threads yield the processor; call it before PyTorch is imported, which reads the variable.

    By default they spin, which makes training steps ten times slower beside any other busy program.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
