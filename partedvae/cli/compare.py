"""The command `partedvae compare`, which reads the files of runs; it needs neither PyTorch nor a server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from partedvae.common.click_errors import click_errors
from partedvae.common.click_paths import LocalPath
from partedvae.common.file_names import in_one_line
from partedvae.common.suggest import shortened
from partedvae.common.text_tables import table_lines

if TYPE_CHECKING:
    from partedvae.common.runs.comparison import Comparison, Difference, Score

LONGEST_CELL = 40
"""Characters of the longest value of a setting in a table; --json has all."""
MARK = " *"
"""After the best value of a score."""


@click.command()
@click.argument("paths", metavar="RUN...", nargs=-1, required=True, type=LocalPath(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("--all", "in_full", is_flag=True, help="Also print the scores of single classes.")
@click.option(
    "--output",
    type=LocalPath(path_type=Path, dir_okay=False),
    help="Also draw the curves of all runs into this file, such as comparison.png.",
)
@click_errors(ValueError, OSError)
def compare(paths: tuple[Path, ...], as_json: bool, in_full: bool, output: Path | None) -> None:
    """Compare runs: settings and data that differ, scores, and training curves.

    Each RUN is a run directory, or a folder, whose runs are all compared. The best value of each score is marked;
    unfinished runs have no scores yet, but the metrics of their last epoch.

    'partedvae evaluate' adds measures and disentanglement scores to a run that was trained without them.
    """
    from partedvae.common.runs.comparison import compare_runs, read_runs

    if output is not None:
        from partedvae.cli.compare_figure import check_format, draw_curves

        check_format(output)
    comparison = compare_runs(read_runs(paths))
    if as_json:
        click.echo(json.dumps(comparison.to_dict(), indent=2))
    else:
        click.echo("\n".join(_report(comparison, in_full)))
    if output is not None:
        draw_curves(comparison, output)
        click.echo(f"curves -> {output}", err=as_json)


def _report(comparison: Comparison, in_full: bool) -> Iterator[str]:
    """Yield the lines of the tables."""
    from partedvae.common.runs.scores import is_of_one_class

    names = [in_one_line(name) for name in comparison.names]
    yield from table_lines([("RUN", "STATE", "EPOCHS", "SECONDS", "STARTED"), *_states(comparison, names)])
    for title, differences in (("SETTING", comparison.settings), ("DATA AND ENVIRONMENT", comparison.provenance)):
        if differences:
            yield ""
            yield from table_lines([(title, *names), *map(_difference_row, differences)])
    if not comparison.settings:
        yield from ("", "all settings are the same")
    scores = [score for score in comparison.scores if in_full or not is_of_one_class(score.name)]
    for title, rows in (("SCORE", scores), ("LAST EPOCH", comparison.metrics)):
        if rows:
            yield ""
            yield from table_lines(
                [(title, *(name + " " * len(MARK) for name in names)), *map(_score_row, rows)], right=True
            )
    if any(any(score.best) for score in (*scores, *comparison.metrics)):
        yield from ("", "* the best of the runs, where higher or lower values are better")
    yield from (f"note: {in_one_line(note)}" for note in comparison.notes)


def _states(comparison: Comparison, names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for run, name in zip(comparison.runs, names, strict=True):
        seconds = "–" if run.seconds is None else f"{run.seconds:,.0f}"
        started = in_one_line(str(run.provenance.get("started", "–")))
        yield name, run.state, str(run.epochs_done), seconds, started


def _difference_row(difference: Difference) -> tuple[str, ...]:
    return in_one_line(difference.key), *(in_one_line(shortened(text, LONGEST_CELL)) for text in difference.texts())


def _score_row(score: Score) -> tuple[str, ...]:
    cells = zip(score.texts(), score.best, strict=True)
    return in_one_line(score.name), *(text + (MARK if best else " " * len(MARK)) for text, best in cells)
