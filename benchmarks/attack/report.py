"""The table of `make attack`, and the same as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.attack.bounds import MB, RETAINED_MB
from benchmarks.attack.runner import AttackReport
from benchmarks.serving.tables import table

HEADER = (
    "attack",
    "sends",
    "version 0.1",
    "memory, MiB",
    "bound",
    "threads",
    "good client p50/p99, ms",
    "under attack",
    "failures",
    "loop lag, ms",
    "recovered after",
    "verdict",
)


def as_json(report: AttackReport) -> dict[str, Any]:
    """Return a report as JSON."""
    return {
        "attack": report.attack.name,
        "sends": report.attack.sends,
        "options": report.attack.options,
        "version_0_1": report.attack.before,
        "outcomes": dict(report.outcomes),
        "idle_mib": report.idle.memory_bytes // MB,
        "peak_mib": report.peak.memory_bytes // MB,
        "bound_mib": report.bounds.peak_bytes // MB,
        "peak_threads": report.peak.threads,
        "peak_files": report.peak.files,
        "before": vars(report.before),
        "during": vars(report.during),
        "lag_seconds": report.lag_seconds,
        "recovery_seconds": report.recovery_seconds,
        "problems": list(report.problems),
    }


def line(report: AttackReport) -> str:
    """Return a report in one line, for the progress."""
    outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in report.outcomes.most_common(4))
    verdict = "; ".join(report.problems) or "held"
    peak, bound = report.peak.memory_bytes // MB, report.bounds.peak_bytes // MB
    return (
        f"{report.attack.name}: {peak:,} of {bound:,} MiB, p99 {report.during.p99_ms:,.0f} ms, "
        f"{report.during.failures} of {report.during.calls} failed ({outcomes}): {verdict}"
    )


def markdown(reports: Sequence[AttackReport], seconds: float, p99_ms: float) -> str:
    """Return all reports as a table in Markdown, with the bounds below it."""
    rows = [
        (
            report.attack.name,
            report.attack.sends,
            report.attack.before,
            f"{report.peak.memory_bytes / MB:,.0f}",
            f"{report.bounds.peak_bytes / MB:,.0f}",
            report.peak.threads,
            f"{report.before.p50_ms:,.0f}/{report.before.p99_ms:,.0f}",
            f"{report.during.p50_ms:,.0f}/{report.during.p99_ms:,.0f}",
            f"{report.during.failures} of {report.during.calls}",
            "–" if report.lag_seconds is None else f"{1000 * report.lag_seconds:,.0f}",
            "not" if report.recovery_seconds is None else f"{report.recovery_seconds:.1f} s",
            "; ".join(report.problems).replace("|", "\\|") or "held",
        )
        for report in reports
    ]
    held = sum(not report.problems for report in reports)
    return "\n\n".join(
        [
            table(HEADER, rows),
            f"{held} of {len(reports)} attacks held, {seconds:g} s each. Memory is that of all server processes; "
            f"its bound is what the idle server uses plus the budget (`--memory-mb`) and {RETAINED_MB} MiB per worker. "
            f"The good client may not fail, and its p99 may not exceed {p99_ms:g} ms. The loop lag is the bucket of "
            "`partedvae_event_loop_lag_seconds` below which all of its samples are.",
        ]
    )
