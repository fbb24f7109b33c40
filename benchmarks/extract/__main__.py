"""The command of `make bench-extract`: measures batch extraction, what bounds it, and other ways to do the same."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import click

from benchmarks.extract.cases import Case, cases_of, with_values
from benchmarks.extract.inputs import make_inputs
from benchmarks.extract.measure import Run, run
from benchmarks.extract.report import as_json, report
from benchmarks.options import document_option, model_options, newest_bundle, output_option, write_results
from benchmarks.serving.load import BenchmarkError
from benchmarks.serving.server import running_server
from benchmarks.serving.variants import front_option, installed_fronts
from partedvae.common.click_paths import LocalPath


@click.command()
@output_option()
@model_options()
@click.option(
    "--data",
    type=LocalPath(path_type=Path),
    default=Path("data"),
    show_default=True,
    help="Folder of the data sets, with MNIST.",
)
@click.option(
    "--inputs",
    type=LocalPath(path_type=Path),
    default=Path("build/bench-extract"),
    show_default=True,
    help="Folder for the image files, which are made once.",
)
@click.option("--pngs", type=click.IntRange(min=1), default=20_000, show_default=True, help="Number of PNG files.")
@click.option("--jpegs", type=click.IntRange(min=1), default=5_000, show_default=True, help="Number of JPEG files.")
@click.option("--only", multiple=True, help="Measure programs whose name contains this, and their bounds. Repeatable.")
@front_option
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Runs of each program.")
@document_option
def main(
    output: Path,
    models: Path,
    name: str,
    data: Path,
    inputs: Path,
    pngs: int,
    jpegs: int,
    only: tuple[str, ...],
    front: tuple[str, ...],
    rounds: int,
    document: Path | None,
) -> None:
    """Measure batch extraction on arrays and files, in process and through a server. Run nothing else meanwhile."""
    bundle = newest_bundle(models, name)
    try:
        cases = [
            case
            for source in make_inputs(data / "mnist", inputs, pngs, jpegs)
            for case in cases_of(source, bundle, front or installed_fronts())
        ]
        cases = _selected(cases, only)
        runs = _measure(cases, models, rounds)
        text = report(cases, runs)
        click.echo(text)
        write_results(output, as_json(cases, runs), document, "bench-extract", text)
    except BenchmarkError as error:
        raise click.ClickException(str(error)) from error


def _selected(cases: Sequence[Case], only: Sequence[str]) -> list[Case]:
    """Return the cases whose name contains one of some texts, and those that their shares refer to."""
    if not only:
        return list(cases)
    names = {(case.source.name, case.name) for case in cases if any(text in case.name for text in only)}
    for case in reversed(cases):  # Bounds come first, and may have bounds.
        if (case.source.name, case.name) in names and case.bound:
            names.add((case.source.name, case.bound))
            names.update((other.source.name, other.name) for other in cases if other.name == case.inference)
    return [case for case in cases if (case.source.name, case.name) in names]


def _measure(cases: Sequence[Case], models: Path, rounds: int) -> dict[tuple[str, str], list[Run]]:
    """Run each case once per round, all in turn, so that all see the same states of the machine."""
    runs: dict[tuple[str, str], list[Run]] = defaultdict(list)
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        # Idle while others are measured.
        addresses = {
            front: stack.enter_context(running_server(models, "--front", front)).address
            for front in {case.front for case in cases if case.front}
        }
        for number in range(rounds):
            for position, case in enumerate(cases):
                click.echo(f"round {number + 1} of {rounds}: {case.source.name}: {case.name} …", err=True)
                path = Path(folder) / f"{position}-{number}"
                arguments = with_values(case, path, addresses.get(case.front or "", ""))
                runs[case.source.name, case.name].append(run(arguments))
    return runs


if __name__ == "__main__":
    main()
