"""The command `partedvae reproduce`. It imports PyTorch when it runs, so that --help is fast."""

from __future__ import annotations

from pathlib import Path

import click

from partedvae.common.click_paths import LocalPath
from partedvae.training.cli.command import ErrorReportingCommand
from partedvae.training.cli.options import data_option, device_option, limit_openmp_spinning, threads_option


def _seeds(ctx: click.Context, parameter: click.Parameter, text: str) -> tuple[int, ...]:
    """Turn "0,1,2" into (0, 1, 2)."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a comma-separated list of whole numbers, such as 0,1,2") from None


@click.command(cls=ErrorReportingCommand)
@click.argument("experiment")
@click.option(
    "--seeds", callback=_seeds, default="0,1,2", show_default=True, help="Random seeds, one training run per seed."
)
@click.option(
    "--recipe",
    type=click.Choice(["default", "paper"]),
    default="default",
    show_default=True,
    help="default: minutes to an hour and a half per run on one core; paper: the paper's schedule, hours per run.",
)
@click.option("--budget", type=click.Choice(["short", "full"]), hidden=True, help="Former name of --recipe.")
@click.option(
    "--runs",
    "runs_dir",
    type=LocalPath(path_type=Path),
    default=Path("runs/reproduce"),
    show_default=True,
    help="Folder of the run directories.",
)
@click.option(
    "--results",
    "results_file",
    type=LocalPath(path_type=Path, dir_okay=False),
    help="JSON file of all results; the page RESULTS.md is written beside it.  [default: RUNS/results.json]",
)
@device_option
@threads_option
@data_option
def reproduce(
    experiment: str,
    seeds: tuple[int, ...],
    recipe: str,
    budget: str | None,
    runs_dir: Path,
    results_file: Path | None,
    device: str,
    threads: int | None,
    data_dir: Path,
) -> None:
    """Run an experiment and add its results to the results page.

    EXPERIMENT is table1, table2, mnist-classifier, bc-ablation or figures, which are those of the paper, or few-labels,
    label-selection, group-labels, separation or ablation.

    Finished runs are not repeated, and interrupted ones are resumed.
    """
    limit_openmp_spinning()
    from partedvae.training.reproduce import experiments
    from partedvae.training.reproduce.results import RECIPE_OF_BUDGET
    from partedvae.training.reproduce.runner import Plan, run_experiment

    plan = Plan(
        recipe=RECIPE_OF_BUDGET[budget] if budget else recipe,
        seeds=seeds,
        data_dir=data_dir,
        runs_dir=runs_dir,
        results_file=results_file or runs_dir / "results.json",
        device=device,
        threads=threads,
    )
    click.echo(run_experiment(experiment, experiments.experiment(experiment), plan), nl=False)
