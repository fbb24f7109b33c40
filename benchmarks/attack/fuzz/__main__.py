"""The fuzzer of `make fuzz`."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click

from benchmarks.attack.bounds import MB, log_problems
from benchmarks.attack.fuzz.fuzzer import FAULTS, FRAMING, FuzzResult, Statuses, fuzz
from benchmarks.attack.models import write_models
from benchmarks.attack.server import Checkout, running_server, this_checkout
from benchmarks.attack.usage import limit_of_files, usage_of
from benchmarks.options import checkout_options, model_options, output_option, write_results
from benchmarks.serving.load import BenchmarkError
from benchmarks.serving.tables import table

MAX_GROWTH_MB = 32
"""Growth of the memory from the first tenth of the requests to the last, in MiB, that is accepted."""
MAX_RELATIVE_GROWTH = 0.1


@click.command()
@output_option(required=False)
@model_options("Folder of models, of which one is served; a tiny untrained model if it does not exist.")
@click.option("--requests", type=click.IntRange(min=10), default=100_000, show_default=True, help="Number of requests.")
@click.option("--processes", type=click.IntRange(min=1), default=2, show_default=True, help="Processes that send them.")
@click.option("--in-flight", type=click.IntRange(min=1), default=16, show_default=True, help="Calls of each process.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the mutations.")
@checkout_options
def main(
    output: Path | None,
    models: Path,
    name: str,
    requests: int,
    processes: int,
    in_flight: int,
    seed: int,
    checkout: Path | None,
    python: str | None,
) -> None:
    """Send mutated requests to all RPCs of a server on the loopback interface, health and reflection included.

    Exits with 1 if an answer is INTERNAL or UNKNOWN, if one is missing, if the log has a traceback, or if memory grows.
    """
    default = this_checkout()
    server = Checkout(root=checkout.resolve() if checkout else default.root, python=python or default.python)
    memory: list[tuple[int, int]] = []
    begin = time.monotonic()
    limit_of_files()
    try:
        with tempfile.TemporaryDirectory() as folder:
            served = Path(folder, "models")
            write_models(models / name, served)
            with running_server("default", server, served, Path(folder)) as running:
                result = fuzz(
                    running.target,
                    requests=requests,
                    processes=processes,
                    in_flight=in_flight,
                    seed=seed,
                    on_progress=lambda done: memory.append((done, usage_of(running.pid).memory_bytes)),
                )
                problems = log_problems(running.log_file, 0, running)
                if not running.is_running():
                    problems.append("the server has ended")
    except BenchmarkError as error:
        raise click.ClickException(str(error)) from error
    statuses = result.statuses
    problems += status_problems(result) + memory_problems(memory, requests)
    click.echo(report(statuses))
    click.echo(f"\n{sum(statuses.values()):,} requests in {time.monotonic() - begin:,.0f} s, seed {seed}")
    first, last = tenths(memory, requests)
    click.echo(f"memory: {first / MB:,.0f} MiB in the first tenth, {last / MB:,.0f} MiB in the last")
    counts = {path: dict(row) for path, row in by_method(statuses).items()}
    write_results(
        output, {"statuses": counts, "first_tenth_bytes": first, "last_tenth_bytes": last, "problems": problems}
    )
    for problem in problems:
        click.echo(problem, err=True)
    sys.exit(bool(problems))


def by_method(statuses: Statuses) -> dict[str, Counter[str]]:
    """Return the counts of each method by status."""
    rows: dict[str, Counter[str]] = {}
    for (path, status), count in sorted(statuses.items()):
        rows.setdefault(path, Counter())[status] += count
    return rows


def report(statuses: Statuses) -> str:
    """Return a table of statuses by method."""
    names = sorted({status for _, status in statuses})
    rows = [
        (path.removeprefix("/"), *(f"{row[name]:,}" if row[name] else "" for name in names))
        for path, row in by_method(statuses).items()
    ]
    return table(("RPC", *names), rows)


def status_problems(result: FuzzResult) -> list[str]:
    """Return the answers that no request may have."""
    return [
        f"{path}: {count} answers were {status}, such as {result.examples[path, status]}"
        for (path, status), count in sorted(result.statuses.items())
        if not path.endswith(FRAMING) and status in FAULTS
    ]


def tenths(memory: list[tuple[int, int]], requests: int) -> tuple[float, float]:
    """Return the median memory in bytes during the first and the last tenth of the requests.

    Args:
        memory: answered requests and memory, sample by sample.
        requests: number of requests.
    """
    first = [size for done, size in memory if 0 < done <= requests / 10]
    last = [size for done, size in memory if done >= requests * 9 / 10]
    return statistics.median(first or [0]), statistics.median(last or [0])


def memory_problems(memory: list[tuple[int, int]], requests: int) -> list[str]:
    """Return whether the memory has grown."""
    first, last = tenths(memory, requests)
    if not first or not last:
        return ["too few requests to compare the memory of their first and last tenth"]
    if last > first * (1 + MAX_RELATIVE_GROWTH) + MAX_GROWTH_MB * MB:
        return [f"memory grew from {first / MB:,.0f} to {last / MB:,.0f} MiB"]
    return []


if __name__ == "__main__":
    main()
