"""The results of the benchmark as a table and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.extract.cases import Case
from benchmarks.extract.measure import Run
from benchmarks.serving.machine import describe, machine
from benchmarks.serving.tables import table
from partedvae.common.cpus import available_cpus

MANY = 10_000_000
HEADER = (
    "input",
    "program",
    "images/s, best",
    "median",
    "per processor",
    "share",
    "of",
    "of decoding and inference",
    "10 million take, h",
    "whole run, s",
    "processor time, s",
    "memory, MB",
)

Runs = Mapping[tuple[str, str], Sequence[Run]]
"""By the name of the input and of the case."""


def report(cases: Sequence[Case], runs: Runs) -> str:
    """Return the results in Markdown."""
    rows = []
    for case in cases:
        of_case = runs[case.source.name, case.name]
        best = rate(of_case)
        share = f"{best / rate(runs[case.source.name, case.bound]):.0%}" if case.bound else ""
        rows.append(
            (
                case.source.name,
                case.name,
                f"{best:,.0f}",
                f"{statistics.median(run.images_per_second for run in of_case):,.0f}",
                f"{best / available_cpus():,.0f}",
                share,
                case.bound,
                f"{best * _seconds_of_both(case, runs):.0%}" if case.inference else "",
                f"{MANY / best / 3600:.2f}",
                f"{min(run.seconds for run in of_case):.1f}",
                f"{min(run.cpu_seconds for run in of_case):.1f}",
                f"{max(run.megabytes for run in of_case):.0f}",
            )
        )
    return f"{describe(machine())}\n\n{table(HEADER, rows)}"


def _seconds_of_both(case: Case, runs: Runs) -> float:
    """Return the seconds per image that decoding and the graphs take together, when nothing else is done."""
    inference = next(of_case for (_, name), of_case in runs.items() if name == case.inference)
    return 1 / rate(runs[case.source.name, case.bound]) + 1 / rate(inference)


def rate(runs: Sequence[Run]) -> float:
    """Return the best rate: other work can only slow a program down."""
    return max(run.images_per_second for run in runs)


def as_json(cases: Sequence[Case], runs: Runs) -> dict[str, Any]:
    """Return everything that was measured."""
    return {
        "machine": machine(),
        "cases": [
            {
                "input": case.source.name,
                "program": case.name,
                "bound": case.bound,
                "runs": [asdict(run) for run in runs[case.source.name, case.name]],
            }
            for case in cases
        ],
    }
