"""Runs an experiment: trains, evaluates, stores and draws each run that is still missing."""

from __future__ import annotations

import dataclasses
import itertools
import os
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from partedvae.training.config.train_config import TrainConfig
from partedvae.training.data.names import FILE_PREFIX
from partedvae.training.engine.device import choose_device
from partedvae.training.engine.run import train_run
from partedvae.training.reports.evaluation import evaluate_run, record_measures
from partedvae.training.reproduce.experiments import Experiment, Variant
from partedvae.training.reproduce.page import all_tables, write_page
from partedvae.training.reproduce.results import Result, is_same, load_results, store_result
from partedvae.training.runs.data import is_drawn
from partedvae.training.runs.directory import RunDirectory, RunError

COMPARISONS = ("bc_factors", "bc_prior_density")
"""Figures of a run and one without the Bhattacharyya term."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """Options of an experiment."""

    recipe: str
    """Name of the recipe: default or paper."""
    seeds: tuple[int, ...]
    """Random seeds; each variant is trained once per seed."""
    data_dir: Path
    """Folder of the data sets."""
    runs_dir: Path
    """Folder of the run directories."""
    results_file: Path
    """JSON file of all results; the page is written beside it."""
    device: str
    """Device to train and evaluate on: auto, cpu or cuda."""
    threads: int | None = None
    """Threads of PyTorch; None chooses the number for each run."""


def run_experiment(name: str, experiment: Experiment, plan: Plan) -> str:
    """Run what is missing of an experiment and return its table.

    Args:
        name: name of the experiment, under which results are stored.
        experiment: its variants and measures.
        plan: recipe, seeds and folders.

    Raises:
        ValueError: a data set is not available, or a run directory cannot be used.
    """
    # Configurations and page first: an error in them should not appear after an hour of training.
    page = plan.results_file.with_suffix(".md").with_stem(plan.results_file.stem.upper())
    configs = [
        (variant, seed, variant.configure(seed, plan.recipe, plan.data_dir, plan.runs_dir))
        for variant, seed in itertools.product(experiment.variants, plan.seeds)
    ]
    write_page(page, load_results(plan.results_file))
    for variant, seed, config in configs:
        results = {result.key: result for result in load_results(plan.results_file)}
        done = results.get((name, variant.name, plan.recipe, seed))
        if done and done.is_of(config):
            click.echo(f"{variant.name}, seed {seed}: already in {plan.results_file}", err=True)
            continue
        run = _finished_run(config, plan.runs_dir) or _own_run(
            config, plan.runs_dir / name / plan.recipe, f"{variant.slug}-{seed}"
        )
        click.echo(f"{variant.name}, seed {seed}: {run.path}", err=True)
        if not run.summary_file.exists():
            if variant.has_groups:
                _train(variant.features(plan.data_dir), RunDirectory(Path(config.features_run)), plan)
            if variant.is_suggested:
                _suggest(variant, config, plan)
        _train(config, run, plan)
        result = _evaluate(name, experiment, variant, run, plan)
        if experiment.figures:
            _draw(run, plan)
            if variant.without_bc_of:
                _draw_comparison(experiment.variant(variant.without_bc_of), run, seed, plan)
        # Stored last, because a stored result counts as done.
        write_page(page, store_result(plan.results_file, result))
    results_of_recipe = [r for r in load_results(plan.results_file) if r.experiment == name and r.recipe == plan.recipe]
    return all_tables(experiment, results_of_recipe)


def _suggest(variant: Variant, config: TrainConfig, plan: Plan) -> None:
    """Write the list of suggested images. A command does it, as training does not import what serves models.

    Raises:
        RunError: the command failed, and has said why.
    """
    output = Path(config.labelled.removeprefix(FILE_PREFIX))
    if output.is_file():
        return
    words = ["suggest", variant.dataset, "--count", config.labels, "--seed", config.seed, "--output", output]
    options = ["--cache", output.parent / variant.dataset, "--data", plan.data_dir]
    command = [sys.executable, "-m", "partedvae", *map(str, (*words, *options))]
    # A server of the environment would rank the images by its model.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PARTEDVAE_")}
    if code := subprocess.run(command, stdout=2, env=environment, check=False).returncode:
        raise RunError(f"'partedvae suggest' failed with exit code {code}; see above")


def _finished_run(config: TrainConfig, runs_dir: Path) -> RunDirectory | None:
    """Return a finished run of this configuration, of any experiment: a run of the paper's recipe takes hours."""
    for summary in sorted(runs_dir.glob("*/*/*/summary.json")):
        run = RunDirectory(summary.parent)
        if _is_of(run, config):
            return run
    return None


def _own_run(config: TrainConfig, folder: Path, name: str) -> RunDirectory:
    """Return the directory to train in: that of an interrupted run of the same configuration, or a new one."""
    run, count = RunDirectory(folder / name), 1
    while run.config_file.exists() and not _is_of(run, config):
        count += 1
        run = RunDirectory(folder / f"{name}-{count}")
    return run


def _is_of(run: RunDirectory, config: TrainConfig) -> bool:
    """Return whether a run has this configuration; a run that cannot be read has not."""
    try:
        return is_same(config, run.load_config())
    except RunError:
        return False


def _train(config: TrainConfig, run: RunDirectory, plan: Plan) -> None:
    if run.summary_file.exists():
        return
    resume = run.config_file.exists()
    config = run.load_config() if resume else config  # its paths may be spelled differently
    # Measured by the evaluation.
    train_run(config, run, plan.data_dir, plan.device, plan.threads, resume=resume, measured=False)


def _evaluate(name: str, experiment: Experiment, variant: Variant, run: RunDirectory, plan: Plan) -> Result:
    report = evaluate_run(run.path, plan.data_dir, device=choose_device(plan.device))
    record_measures(run, report)
    summary, provenance = run.load_summary(), run.load_provenance()
    words = ["partedvae", "reproduce", name, "--recipe", plan.recipe, "--seeds", str(report.config.seed)]
    click.echo(report.to_text())
    return Result(
        experiment=name,
        variant=variant.name,
        recipe=plan.recipe,
        seed=report.config.seed,
        labels=report.config.labels,
        epochs=summary["epochs"],
        train_seconds=summary["train_seconds"],
        device=", ".join(run.devices()),
        data="drawn" if any(is_drawn(origin) for origin in provenance["data"].values()) else "original",
        measures={key: round(value, 4) for key, value in experiment.measure(report).items()},
        separation={
            **{f"accuracy/{name}": round(value, 4) for name, value in report.evaluation.accuracies.items()},
            **{key: round(value, 4) for key, value in report.measures.flat().items()},
        },
        command=shlex.join(words),
        commit=provenance["commit"],
        date=datetime.now(UTC).date().isoformat(),
        config=report.config.to_dict(),
    )


def _draw(run: RunDirectory, plan: Plan, *, only: tuple[str, ...] = (), without_bc: Path | None = None) -> None:
    """Draw every figure that applies to the run, or those of some names, into the run directory."""
    from partedvae.training.figures.registry import draw_run

    for path in draw_run(run.path, run.path / "figures", plan.data_dir, only=only, without_bc=without_bc):
        click.echo(f"  {path}", err=True)


def _draw_comparison(variant: Variant, without_bc: RunDirectory, seed: int, plan: Plan) -> None:
    """Draw the figures that compare the run of a variant with one without the Bhattacharyya term."""
    run = _finished_run(variant.configure(seed, plan.recipe, plan.data_dir, plan.runs_dir), plan.runs_dir)
    if run is None:
        # Its result is stored, and the run directory is elsewhere or was deleted.
        click.echo(
            f"Figures 8 and 10 are not drawn: {plan.runs_dir} has no run of {variant.name!r}, seed {seed}; see "
            "'partedvae figures --without-bc'",
            err=True,
        )
        return
    _draw(run, plan, only=COMPARISONS, without_bc=without_bc.path)
