"""The command `reproduce`. Imports of PyTorch are inside it, so that asking for help is fast."""

from __future__ import annotations

from pathlib import Path

import click

from partedvae.training.cli.options import data_option, limit_openmp_spinning


def _seeds(ctx: click.Context, parameter: click.Parameter, text: str) -> tuple[int, ...]:
    """Turn "0,1,2" into (0, 1, 2)."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r} is not whole numbers with commas between, like 0,1,2") from None


@click.command()
@click.argument("experiment")
@click.option("--seeds", callback=_seeds, default="0,1,2", show_default=True, help="A run for each.")
@click.option(
    "--budget",
    type=click.Choice(["short", "full"]),
    default="short",
    show_default=True,
    help="short: the default recipe, minutes a run on two cores; full: the paper's schedule, hours.",
)
@click.option("--runs", "runs_dir", type=click.Path(path_type=Path), default=Path("runs/reproduce"), show_default=True)
@click.option(
    "--results",
    "results_file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("docs/results.json"),
    show_default=True,
    help="File that keeps every result; the page is written beside it: RESULTS.md.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@data_option
def reproduce(
    experiment: str,
    seeds: tuple[int, ...],
    budget: str,
    runs_dir: Path,
    results_file: Path,
    device: str,
    data_dir: Path,
) -> None:
    """Run an experiment of the paper: table1, table2, mnist-classifier, bc-ablation or figures.

    Runs that were done before are not repeated, and one that was interrupted goes on where it stopped.
    """
    limit_openmp_spinning()
    from partedvae.training.reproduce import experiments
    from partedvae.training.reproduce.runner import Plan, run_experiment

    plan = Plan(
        budget=budget, seeds=seeds, data_dir=data_dir, runs_dir=runs_dir, results_file=results_file, device=device
    )
    try:
        text = run_experiment(experiment, experiments.experiment(experiment), plan)
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(text, nl=False)
