"""The serving benchmark of `make bench`."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.options import (
    document_option,
    model_options,
    newest_bundle,
    output_option,
    seconds_option,
    write_results,
)
from benchmarks.serving.load import BenchmarkError
from benchmarks.serving.machine import describe, machine
from benchmarks.serving.paced import describe_generator, latency_cell
from benchmarks.serving.suite import SuiteResult, run_suite
from benchmarks.serving.tables import table
from benchmarks.serving.variants import front_option, variants
from partedvae.common.cpus import available_cpus

HEADER = (
    "request",
    "front",
    "workers",
    "concurrency",
    "requests/s",
    "images/s",
    "of ORT alone",
    "p50 ms",
    "p90 ms",
    "p99 ms",
)
SERVER_HEADER = (
    "front",
    "workers",
    "SERVING after, s",
    "memory after the start, MB",
    "at the end, MB",
    "features of 1 image at half of the maximum rate, requests/s",
    "p50 / p99 ms",
)


@click.command()
@output_option()
@model_options()
@front_option
@seconds_option(5.0, "Per load.")
@document_option
def main(output: Path, models: Path, name: str, front: tuple[str, ...], seconds: float, document: Path | None) -> None:
    """Measure throughput and latency of the server, and compare with ONNX Runtime alone. Run nothing else meanwhile."""
    bundle = newest_bundle(models, name)
    worker_counts = sorted({1, available_cpus()})
    try:
        result = run_suite(
            bundle, variants(bundle, front), worker_counts, seconds, lambda text: click.echo(text, err=True)
        )
        text = report(result)
        click.echo(text)
        write_results(output, result.as_json(), document, "bench", text)
    except BenchmarkError as error:
        raise click.ClickException(str(error)) from error


def report(result: SuiteResult) -> str:
    """Return the results in Markdown."""
    rows = [
        (
            f"{load.request}, {load.images} image{'s' * (load.images > 1)}",
            load.variant,
            load.workers,
            load.concurrent,
            f"{load.measurement.requests_per_second:,.0f}",
            f"{load.measurement.images_per_second:,.0f}",
            f"{result.share(load):.0%}",
            *(f"{ms:.1f}" for ms in (load.measurement.p50_ms, load.measurement.p90_ms, load.measurement.p99_ms)),
        )
        for load in sorted(result.loads, key=lambda r: (r.request, -r.images, r.variant, r.workers, r.concurrent))
    ]
    servers = [
        (
            facts.variant,
            facts.workers,
            f"{facts.start_seconds:.2f}",
            f"{facts.resident_megabytes:.0f}",
            f"{facts.resident_megabytes_after:.0f}",
            f"{facts.half_load.rate:,.0f}",
            latency_cell(facts.half_load),
        )
        for facts in result.servers
    ]
    return "\n\n".join(
        [
            f"{describe(machine())} Load by {result.generator} on the same processors.",
            result.ort_alone.describe(),
            table(HEADER, rows),
            table(SERVER_HEADER, servers),
            describe_generator([facts.half_load for facts in result.servers]),
        ]
    )


if __name__ == "__main__":
    main()
