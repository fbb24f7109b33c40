"""The command behind `make bench`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from benchmarks.serving.load import BenchmarkError
from benchmarks.serving.machine import described
from benchmarks.serving.plan import Row, measure
from benchmarks.serving.tables import table, write_between
from partedvae.common.cpus import available_cpus
from partedvae.serving.bundle import load_bundle, versions_of
from partedvae.serving.errors import ServingError

HEADER = ("request", "at a time", "workers", "requests/s", "images/s", "of ORT alone", "p50 ms", "p90 ms", "p99 ms")


@click.command()
@click.option("--output", type=click.Path(path_type=Path), required=True, help="JSON file to write.")
@click.option("--models", type=click.Path(path_type=Path), default=Path("demo/models"), show_default=True)
@click.option("--name", default="mnist", show_default=True, help="Model of that folder.")
@click.option("--seconds", type=click.FloatRange(min=0.1), default=5.0, show_default=True, help="Of each load.")
@click.option("--document", type=click.Path(path_type=Path), help="Markdown file that is to hold the table.")
def main(output: Path, models: Path, name: str, seconds: float, document: Path | None) -> None:
    """Measure a real server on a model that `make demo` or `make export` left, beside ONNX Runtime alone."""
    versions = versions_of(models / name)
    if not versions:
        raise click.ClickException(
            f"{models / name} holds no version of a model; 'make demo' leaves one in demo/models"
        )
    try:
        bundle = load_bundle(models.resolve() / name / str(versions[-1]))
        worker_counts = tuple(sorted({1, available_cpus()}))
        summary, rows = measure(bundle, worker_counts, seconds, lambda text: click.echo(text, err=True))
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        text = report(summary, rows)
        click.echo(text)
        if document:
            write_between(document, "bench", text)
    except (ServingError, BenchmarkError) as error:
        raise click.ClickException(str(error)) from error


def report(summary: dict[str, Any], rows: list[Row]) -> str:
    """Say in Markdown what was measured."""
    lines = [
        (
            f"{row.what}, {row.images} image{'s' * (row.images > 1)}",
            row.concurrent,
            row.workers,
            f"{row.result.requests_per_second:,.0f}",
            f"{row.result.images_per_second:,.0f}",
            f"{row.share_of_ort:.0%}",
            *(f"{value:.1f}" for value in (row.result.p50_ms, row.result.p90_ms, row.result.p99_ms)),
        )
        for row in sorted(rows, key=lambda row: (row.what, -row.images, row.workers, row.concurrent))
    ]
    half = summary["features_1"]["half_load"]
    servers = "; ".join(
        f"{name.removeprefix('workers_')} worker{'s' * (name != 'workers_1')}: SERVING after "
        f"{facts['start_seconds']:.2f} s, {facts['resident_megabytes']:.0f} MB resident then and "
        f"{facts['resident_megabytes_after']:.0f} MB at the end"
        for name, facts in summary["servers"].items()
    )
    return "\n\n".join(
        [
            f"{described(summary['machine'])} Load by {summary['load_generator']} on the same processors.",
            f"ONNX Runtime alone, batches of 64: {summary['ort_images_per_second']:,.0f} images/s through the encoder, "
            f"{summary['ort_generated_images_per_second']:,.0f} images/s out of the decoder.",
            table(HEADER, lines),
            f"Features of 1 image at half of the highest load ({half['requests_per_second']:,.0f} requests/s, evenly "
            f"paced): p50 {half['p50_ms']:.1f} ms, p90 {half['p90_ms']:.1f} ms, p99 {half['p99_ms']:.1f} ms.",
            f"{servers}.",
        ]
    )


if __name__ == "__main__":
    main()
