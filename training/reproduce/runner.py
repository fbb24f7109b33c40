"""Running an experiment: train, measure, keep, and draw, run by run; what is there already is not done again."""

from __future__ import annotations

import dataclasses
import itertools
import shlex
from datetime import UTC, datetime
from pathlib import Path

import click

from partedvae.training.config.overrides import apply_overrides
from partedvae.training.config.recipes import recipe
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.data.registry import entry
from partedvae.training.engine.loop import train_run
from partedvae.training.reports.evaluation import evaluate_run
from partedvae.training.reproduce.experiments import FULL_RECIPE, SHORT_RECIPE, Experiment, Row
from partedvae.training.reproduce.results import Result, keep_result, load_results, table, write_page
from partedvae.training.runs.data import is_drawn
from partedvae.training.runs.directory import RunDirectory, RunError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """How to run experiments."""

    budget: str
    """short or full."""
    seeds: tuple[int, ...]
    """A run for each."""
    data_dir: Path
    """Folder of the data sets."""
    runs_dir: Path
    """Folder for the runs."""
    results_file: Path
    """The JSON file that keeps results; the page is written beside it, as RESULTS.md."""
    device: str
    """Where to train."""


def run_experiment(name: str, experiment: Experiment, plan: Plan) -> str:
    """Run what is missing of an experiment and return its table.

    Raises:
        ValueError: a data set cannot be had, or a run directory does not fit.
    """
    # All of them now, and the page, rather than after the first hour of training.
    page = plan.results_file.with_suffix(".md").with_stem(plan.results_file.stem.upper())
    configs = [
        (row, seed, configure(row, seed, plan.budget, plan.data_dir))
        for row, seed in itertools.product(experiment.rows, plan.seeds)
    ]
    write_page(page, load_results(plan.results_file))
    for row, seed, config in configs:
        done = {result.key: result for result in load_results(plan.results_file)}.get(
            (name, row.name, plan.budget, seed)
        )
        if done and done.is_of(config):
            click.echo(f"{row.name}, seed {seed}: done before, see {plan.results_file}", err=True)
            continue
        run = _trained(config, plan) or _own_run(config, plan.runs_dir / name / plan.budget, f"{row.slug}-{seed}")
        click.echo(f"{row.name}, seed {seed}: {run.path}", err=True)
        _train(config, run, plan)
        result = _measure(name, experiment, row, run, plan)
        if experiment.figures:
            _draw(run, plan)
        # Last: what is kept here counts as done.
        write_page(page, keep_result(plan.results_file, result))
    kept = [r for r in load_results(plan.results_file) if r.experiment == name and r.budget == plan.budget]
    return table(experiment, kept)


def configure(row: Row, seed: int, budget: str, data_dir: Path) -> TrainConfig:
    """Return the configuration of one run."""
    info = entry(row.dataset).describe(data_dir)
    config = recipe(info, FULL_RECIPE if budget == "full" else SHORT_RECIPE, row.method, row.labels)
    return apply_overrides(dataclasses.replace(config, seed=seed), row.settings)


def _trained(config: TrainConfig, plan: Plan) -> RunDirectory | None:
    """Return a finished run of this configuration: experiments have some in common, and a full one takes hours."""
    for summary in sorted(plan.runs_dir.glob(f"*/{plan.budget}/*/summary.json")):
        run = RunDirectory(summary.parent)
        if _is_of(run, config):
            return run
    return None


def _own_run(config: TrainConfig, folder: Path, name: str) -> RunDirectory:
    """Return the directory to train in: a new one, or that of an interrupted run of the same configuration."""
    run, count = RunDirectory(folder / name), 1
    while run.config_file.exists() and not _is_of(run, config):
        count += 1
        run = RunDirectory(folder / f"{name}-{count}")
    return run


def _is_of(run: RunDirectory, config: TrainConfig) -> bool:
    """Say whether a run has this configuration; one that can't be read any more is another's."""
    try:
        return run.load_config() == config
    except RunError:
        return False


def _train(config: TrainConfig, run: RunDirectory, plan: Plan) -> None:
    if run.summary_file.exists():
        return
    resume = run.config_file.exists()
    train_run(config, run, plan.data_dir, plan.device, resume=resume)


def _measure(name: str, experiment: Experiment, row: Row, run: RunDirectory, plan: Plan) -> Result:
    report = evaluate_run(run.path, plan.data_dir)
    summary, provenance = run.load_summary(), run.load_provenance()
    words = ["partedvae", "reproduce", name, "--budget", plan.budget, "--seeds", str(report.config.seed)]
    click.echo(report.to_text())
    return Result(
        experiment=name,
        row=row.name,
        budget=plan.budget,
        seed=report.config.seed,
        labels=report.config.labels,
        epochs=summary["epochs"],
        train_seconds=summary["train_seconds"],
        data="drawn" if any(is_drawn(origin) for origin in provenance["data"].values()) else "original",
        measures={key: round(value, 4) for key, value in experiment.measure(report).items()},
        command=shlex.join(words),
        commit=provenance["commit"],
        date=datetime.now(UTC).date().isoformat(),
        config=report.config.to_dict(),
    )


def _draw(run: RunDirectory, plan: Plan) -> None:
    """Draw every figure that fits, into the run's own folder."""
    from partedvae.training.figures.registry import draw_run

    for path in draw_run(run.path, run.path / "figures", plan.data_dir):
        click.echo(f"  {path}", err=True)
