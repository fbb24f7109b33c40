"""The measurements of the serving benchmark: ONNX Runtime alone, then servers with different numbers of workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.serving import client_load, h2load
from benchmarks.serving.load import Load, Measurement, Target
from benchmarks.serving.machine import machine
from benchmarks.serving.requests import decoder_baseline, encoder_baseline, features_target, generate_target
from benchmarks.serving.server import Server, running_server
from partedvae.serving.bundle import Bundle

IMAGES = (1, 64)
"""Images per request."""
CONCURRENT = (1, 8, 32, 64)
"""Numbers of concurrent requests."""
CONNECTIONS = 8
"""Maximum connections of a load; the kernel distributes connections, not requests, over the workers."""
PACED_CONNECTIONS = 24
"""Connections of a paced load: each carries about one request at a time, a hundred per second."""


@dataclass(frozen=True)
class LoadResult:
    """The measurement of one load on one server."""

    request: str
    """"features" or "generate"."""
    workers: int
    images: int
    concurrent: int
    share_of_ort: float
    """Throughput relative to ONNX Runtime alone in the same run."""
    measurement: Measurement


def spread_over_connections(concurrent: int, seconds: float) -> Load:
    """Return a load with a number of concurrent requests on at most `CONNECTIONS` connections."""
    connections = min(CONNECTIONS, concurrent)
    return Load(connections=connections, streams=concurrent // connections, seconds=seconds)


def load_generator() -> tuple[str, Callable[[Target, Load], Measurement]]:
    """Return h2load if it is installed, otherwise the load generator in Python, with its name."""
    return ("h2load", h2load.run) if h2load.is_installed() else ("grpc.aio in Python", client_load.run)


def run_suite(
    bundle: Bundle, worker_counts: tuple[int, ...], seconds: float, log: Callable[[str], None]
) -> tuple[dict[str, Any], list[LoadResult]]:
    """Run all measurements.

    Args:
        bundle: the model, in a folder of models.
        worker_counts: number of workers of each server.
        seconds: duration of each load.
        log: receives a line per measurement.

    Returns:
        The content of bench.json, and the results for the table.

    Raises:
        BenchmarkError: a server did not start, or a request failed.
    """
    generator, run = load_generator()
    baseline = {
        "features": encoder_baseline(bundle.folder, bundle.manifest, seconds),
        "generate": decoder_baseline(bundle.folder, bundle.manifest, seconds),
    }
    log(f"ONNX Runtime alone: encoder {baseline['features']:,.0f} images/s, decoder {baseline['generate']:,.0f}")
    summary: dict[str, Any] = {
        "machine": machine(),
        "load_generator": generator,
        "ort_images_per_second": baseline["features"],
        "ort_generated_images_per_second": baseline["generate"],
        "servers": {},
    }
    results: list[LoadResult] = []
    paced: dict[int, Measurement] = {}
    for workers in worker_counts:
        with running_server(bundle.folder.parents[1], "--workers", str(workers)) as server:
            facts = {"start_seconds": server.start_seconds, "resident_megabytes": server.resident_megabytes()}
            for request, target in _targets(server, bundle):
                for concurrent in CONCURRENT:
                    measurement = run(target, spread_over_connections(concurrent, seconds))
                    share = round(measurement.images_per_second / baseline[request], 3)
                    results.append(LoadResult(request, workers, target.images, concurrent, share, measurement))
                    log(
                        f"{request}, {workers} workers, {target.images} images, concurrency {concurrent}: "
                        f"{asdict(measurement)}"
                    )
            single = features_target(server.address, bundle.name, bundle.manifest, 1)
            maximum = max(
                result.measurement.requests_per_second
                for result in results
                if _matches(result, "features", 1) and result.workers == workers
            )
            half = Load(connections=PACED_CONNECTIONS, streams=CONNECTIONS, seconds=seconds, rate=maximum / 2)
            paced[workers] = run(single, half)
            log(f"features, {workers} workers, 1 image, half of the maximum throughput: {asdict(paced[workers])}")
            facts["resident_megabytes_after"] = server.resident_megabytes()
            summary["servers"][f"workers_{workers}"] = facts
    first = summary["servers"][f"workers_{worker_counts[0]}"]
    summary |= {name: first[name] for name in ("start_seconds", "resident_megabytes")} | _best(results)
    summary["features_1"]["half_load"] = asdict(paced[summary["features_1"]["workers"]])
    return summary, results


def _best(results: Sequence[LoadResult]) -> dict[str, Any]:
    """Return the result with the highest throughput of each kind of request, by "features_64" and so on."""
    best: dict[str, Any] = {}
    for request, images in sorted({(result.request, result.images) for result in results}):
        fastest = max(
            (result for result in results if _matches(result, request, images)),
            key=lambda result: result.measurement.images_per_second,
        )
        best[f"{request}_{images}"] = asdict(fastest.measurement) | {
            "share_of_ort": fastest.share_of_ort,
            "workers": fastest.workers,
            "concurrent": fastest.concurrent,
        }
    return best


def _targets(server: Server, bundle: Bundle) -> Iterator[tuple[str, Target]]:
    for images in IMAGES:
        yield "features", features_target(server.address, bundle.name, bundle.manifest, images)
    for images in IMAGES:
        yield "generate", generate_target(server.address, bundle.name, images)


def _matches(result: LoadResult, request: str, images: int) -> bool:
    return (result.request, result.images) == (request, images)
