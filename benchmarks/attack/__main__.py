"""The attacks of `make attack`."""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from benchmarks.attack.attack import Attack
from benchmarks.attack.models import write_models
from benchmarks.attack.registry import ATTACKS
from benchmarks.attack.report import as_json, line, markdown
from benchmarks.attack.runner import AttackReport, session
from benchmarks.attack.server import ONLY_FRONT, Checkout, this_checkout
from benchmarks.options import (
    checkout_options,
    document_option,
    model_options,
    output_option,
    seconds_option,
    write_results,
)
from benchmarks.serving.load import BenchmarkError
from partedvae.common.suggest import lookup

SECTIONS = {"grpcio": "attack", "native": "attack-native"}
"""Sections of the Markdown file by front."""


@click.command()
@click.argument("names", nargs=-1, metavar="[ATTACK]...")
@click.option("--list", "list_only", is_flag=True, help="List the attacks and exit.")
@output_option(required=False)
@click.option("--json", "print_json", is_flag=True, help="Print JSON instead of a table.")
@model_options("Folder of models, of which one is attacked; a tiny untrained model if it does not exist.")
@click.option(
    "--front",
    type=click.Choice(["grpcio", "native"]),
    default=ONLY_FRONT,
    show_default=True,
    help="Front of the server; each has a table of its own in the Markdown file.",
)
@seconds_option(6.0, "Duration of an attack.", least=0.5)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0.1),
    default=14.0,
    show_default=True,
    help="Maximum duration of all attacks; the remaining ones count as broken.",
)
@click.option(
    "--p99-ms",
    type=click.FloatRange(min=1),
    default=2000.0,
    show_default=True,
    help="Largest p99 of the good client under attack.",
)
@click.option(
    "--ceiling-mb",
    type=click.IntRange(min=1),
    default=8192,
    show_default=True,
    help="Memory in MiB at which the server is killed.",
)
@checkout_options
@document_option
def main(
    names: tuple[str, ...],
    list_only: bool,
    output: Path | None,
    print_json: bool,
    models: Path,
    name: str,
    front: str,
    seconds: float,
    minutes: float,
    p99_ms: float,
    ceiling_mb: int,
    checkout: Path | None,
    python: str | None,
    document: Path | None,
) -> None:
    """Attack a server on the loopback interface, beside a client that behaves well.

    Runs the given attacks, by default all. Exits with 1 if one of them breaks a bound: memory, the good client's calls
    and latency, recovery, statuses, or the log. Run nothing else meanwhile.
    """
    if list_only:
        for attack in ATTACKS.values():
            click.echo(f"{attack.name:32} {attack.options:10} {attack.sends}")
        return
    selected = [_attack_of(each) for each in names] or list(ATTACKS.values())
    default = this_checkout()
    root = checkout.resolve() if checkout else default.root
    server = Checkout(root=root, python=python or default.python)
    reports: list[AttackReport] = []
    failure: BenchmarkError | None = None
    with tempfile.TemporaryDirectory() as folder:
        served = Path(folder, "models")
        write_models(models / name, served)
        try:
            for report in _run(selected, server, served, Path(folder), front, seconds, minutes, p99_ms, ceiling_mb):
                click.echo(line(report), err=True)
                reports.append(report)
        except BenchmarkError as error:  # What was measured before is not lost.
            failure = error
    text = markdown(reports, seconds, p99_ms)
    data = [{"front": front, **as_json(report)} for report in reports]
    click.echo(json.dumps(data, indent=2) if print_json else text)
    write_results(output, data, document, SECTIONS[front], text)
    if failure is not None:
        raise click.ClickException(str(failure))
    if missing := len(selected) - len(reports):
        click.echo(f"{missing} attacks were not run within {minutes:g} minutes", err=True)
    sys.exit(bool(missing or any(report.problems for report in reports)))


def _attack_of(name: str) -> Attack:
    try:
        return lookup("attack", name, ATTACKS)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _run(
    attacks: Sequence[Attack],
    checkout: Checkout,
    models: Path,
    folder: Path,
    front: str,
    seconds: float,
    minutes: float,
    p99_ms: float,
    ceiling_mb: int,
) -> Iterator[AttackReport]:
    """Run attacks and yield their reports, those with the same options against the same server while it recovers."""
    end = time.monotonic() + 60 * minutes
    by_options = sorted(attacks, key=lambda attack: attack.options)
    for options, group in itertools.groupby(by_options, key=lambda attack: attack.options):
        waiting = list(group)
        while waiting and time.monotonic() < end:
            with session(options, checkout, models, folder, ceiling_mb, front) as running:
                while waiting and running.is_usable and time.monotonic() < end:
                    yield running.run(waiting.pop(0), seconds, p99_ms)


if __name__ == "__main__":
    main()
