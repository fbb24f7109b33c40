"""The serving benchmark of `make bench`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from benchmarks.serving.load import BenchmarkError
from benchmarks.serving.machine import describe
from benchmarks.serving.suite import LoadResult, run_suite
from benchmarks.serving.tables import replace_section, table
from partedvae.common.click_paths import LocalPath
from partedvae.common.cpus import available_cpus
from partedvae.serving.bundle import load_bundle
from partedvae.serving.bundle_files import versions_of
from partedvae.serving.errors import ServingError

HEADER = ("request", "concurrency", "workers", "requests/s", "images/s", "of ORT alone", "p50 ms", "p90 ms", "p99 ms")


@click.command()
@click.option("--output", type=LocalPath(path_type=Path), required=True, help="JSON file to write.")
@click.option(
    "--models",
    type=LocalPath(path_type=Path),
    default=Path("demo/models"),
    show_default=True,
    help="Folder that holds the models.",
)
@click.option("--name", default="mnist", show_default=True, help="Name of the model.")
@click.option("--seconds", type=click.FloatRange(min=0.1), default=5.0, show_default=True, help="Per load.")
@click.option("--document", type=LocalPath(path_type=Path), help="Markdown file to update.")
def main(output: Path, models: Path, name: str, seconds: float, document: Path | None) -> None:
    """Measure throughput and latency of the server, and compare with ONNX Runtime alone. Run nothing else meanwhile."""
    versions = versions_of(models / name)
    if not versions:
        raise click.ClickException(
            f"{models / name} contains no version of a model; 'make demo' writes one to demo/models"
        )
    try:
        bundle = load_bundle(models.resolve() / name / str(versions[-1]))
        worker_counts = tuple(sorted({1, available_cpus()}))
        summary, results = run_suite(bundle, worker_counts, seconds, lambda text: click.echo(text, err=True))
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        text = report(summary, results)
        click.echo(text)
        if document:
            replace_section(document, "bench", text)
    except (ServingError, BenchmarkError) as error:
        raise click.ClickException(str(error)) from error


def report(summary: dict[str, Any], results: list[LoadResult]) -> str:
    """Return the results in Markdown."""
    rows = [
        (
            f"{result.request}, {result.images} image{'s' * (result.images > 1)}",
            result.concurrent,
            result.workers,
            f"{result.measurement.requests_per_second:,.0f}",
            f"{result.measurement.images_per_second:,.0f}",
            f"{result.share_of_ort:.0%}",
            *(f"{ms:.1f}" for ms in (result.measurement.p50_ms, result.measurement.p90_ms, result.measurement.p99_ms)),
        )
        for result in sorted(results, key=lambda r: (r.request, -r.images, r.workers, r.concurrent))
    ]
    half = summary["features_1"]["half_load"]
    servers = "; ".join(
        f"{name.removeprefix('workers_')} worker{'s' * (name != 'workers_1')}: SERVING after "
        f"{facts['start_seconds']:.2f} s, resident memory {facts['resident_megabytes']:.0f} MB after the start and "
        f"{facts['resident_megabytes_after']:.0f} MB at the end"
        for name, facts in summary["servers"].items()
    )
    return "\n\n".join(
        [
            f"{describe(summary['machine'])} Load by {summary['load_generator']} on the same processors.",
            f"ONNX Runtime alone, batches of 64: {summary['ort_images_per_second']:,.0f} images/s through the encoder, "
            f"{summary['ort_generated_images_per_second']:,.0f} images/s through the decoder.",
            table(HEADER, rows),
            f"Features of 1 image at half of the maximum throughput ({half['requests_per_second']:,.0f} "
            f"requests/s, evenly paced): p50 {half['p50_ms']:.1f} ms, p90 {half['p90_ms']:.1f} ms, "
            f"p99 {half['p99_ms']:.1f} ms.",
            f"{servers}.",
        ]
    )


if __name__ == "__main__":
    main()
