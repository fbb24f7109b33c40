"""What is measured: ONNX Runtime alone, then a server with one worker, then one with a worker a processor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.serving import client_load, h2load
from benchmarks.serving.load import Load, Measured, Target
from benchmarks.serving.machine import machine
from benchmarks.serving.requests import decoder_alone, encoder_alone, features_target, generate_target
from benchmarks.serving.server import Server, running_server
from partedvae.serving.bundle import Bundle

IMAGES = (1, 64)
"""Images a request."""
CONCURRENT = (1, 8, 32, 64)
"""Requests under way at a time."""
CONNECTIONS = 8
"""At most: the system shares connections, not requests, among the workers of a port."""
PACED_CONNECTIONS = 24
"""Of a paced load: each then sends about one request at a time, a hundred a second."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """One load on one server."""

    what: str
    """"features" or "generate"."""
    workers: int
    images: int
    concurrent: int
    share_of_ort: float
    """Of the images a second that ONNX Runtime alone does, measured in the same run."""
    result: Measured


def load_of(concurrent: int, seconds: float) -> Load:
    """Spread so many requests at a time over a few connections."""
    connections = min(CONNECTIONS, concurrent)
    return Load(connections=connections, streams=concurrent // connections, seconds=seconds)


def load_generator() -> tuple[str, Callable[[Target, Load], Measured]]:
    """Return h2load where it is installed, else the project's own."""
    return ("h2load", h2load.run) if h2load.is_installed() else ("grpc.aio in Python", client_load.run)


def measure(
    bundle: Bundle, worker_counts: tuple[int, ...], seconds: float, say: Say
) -> tuple[dict[str, Any], list[Row]]:
    """Measure everything.

    Args:
        bundle: the model, in a folder of models.
        worker_counts: how many processes serve, one server after the other.
        seconds: how long each load lasts.
        say: is told what comes.

    Returns:
        What goes into bench.json, and the rows of the table.

    Raises:
        BenchmarkError: a server does not start, or requests fail.
    """
    generator, run = load_generator()
    alone = {
        "features": encoder_alone(bundle.folder, bundle.manifest, seconds),
        "generate": decoder_alone(bundle.folder, bundle.manifest, seconds),
    }
    say(f"ONNX Runtime alone: {alone['features']:,.0f} images/s in, {alone['generate']:,.0f} images/s out")
    summary: dict[str, Any] = {
        "machine": machine(),
        "load_generator": generator,
        "ort_images_per_second": alone["features"],
        "ort_generated_images_per_second": alone["generate"],
        "servers": {},
    }
    rows: list[Row] = []
    paced: dict[int, Measured] = {}
    for workers in worker_counts:
        with running_server(bundle.folder.parents[1], "--workers", str(workers)) as server:
            facts = {"start_seconds": server.start_seconds, "resident_megabytes": server.resident_megabytes()}
            for what, target in _targets(server, bundle):
                for concurrent in CONCURRENT:
                    result = run(target, load_of(concurrent, seconds))
                    share = round(result.images_per_second / alone[what], 3)
                    rows.append(Row(what, workers, target.images, concurrent, share, result))
                    say(f"{what}, {workers} workers, {target.images} images, {concurrent} at a time: {asdict(result)}")
            single = features_target(server.address, bundle.name, bundle.manifest, 1)
            highest = max(row.result.requests_per_second for row in rows if _is(row, "features", 1, workers))
            half = Load(connections=PACED_CONNECTIONS, streams=CONNECTIONS, seconds=seconds, rate=highest / 2)
            paced[workers] = run(single, half)
            say(f"features, {workers} workers, 1 image, half of the highest load: {asdict(paced[workers])}")
            facts["resident_megabytes_after"] = server.resident_megabytes()
            summary["servers"][f"workers_{workers}"] = facts
    first = summary["servers"][f"workers_{worker_counts[0]}"]
    summary |= {name: first[name] for name in ("start_seconds", "resident_megabytes")} | _best(rows)
    summary["features_1"]["half_load"] = asdict(paced[summary["features_1"]["workers"]])
    return summary, rows


def _best(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the fastest row of each kind of request, "features_64" and so on."""
    kinds = sorted({(row.what, row.images) for row in rows})
    best: dict[str, Any] = {}
    for what, images in kinds:
        row = max((r for r in rows if _is(r, what, images)), key=lambda r: r.result.images_per_second)
        facts = {"share_of_ort": row.share_of_ort, "workers": row.workers, "concurrent": row.concurrent}
        best[f"{what}_{images}"] = asdict(row.result) | facts
    return best


def _targets(server: Server, bundle: Bundle) -> Iterator[tuple[str, Target]]:
    for images in IMAGES:
        yield "features", features_target(server.address, bundle.name, bundle.manifest, images)
    for images in IMAGES:
        yield "generate", generate_target(server.address, bundle.name, images)


def _is(row: Row, what: str, images: int, workers: int | None = None) -> bool:
    return (row.what, row.images) == (what, images) and workers in (None, row.workers)
