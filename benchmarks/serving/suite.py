"""The measurements of the serving benchmark: ONNX Runtime alone, and servers of each variant and number of workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.serving import client_load, h2load, paced
from benchmarks.serving.load import Load, Measurement, Target
from benchmarks.serving.machine import machine
from benchmarks.serving.ort_alone import Graph, OrtAlone
from benchmarks.serving.paced import PacedMeasurement
from benchmarks.serving.requests import features_target, generate_target
from benchmarks.serving.server import Server, running_server
from benchmarks.serving.variants import Variant, precisions
from partedvae.serving.bundle import Bundle

IMAGES = (1, 64)
"""Images per request."""
CONCURRENT = (1, 8, 32, 64)
"""Numbers of concurrent requests."""
CONNECTIONS = 8
"""Maximum connections of a load; the kernel distributes connections, not requests, over the workers."""


@dataclass(frozen=True, kw_only=True)
class LoadResult:
    """The measurement of one load on one server."""

    request: Graph
    variant: str
    precision: str
    workers: int
    images: int
    """Images per request."""
    concurrent: int
    measurement: Measurement


@dataclass(frozen=True, kw_only=True)
class ServerFacts:
    """Start, memory and latency of one server."""

    variant: str
    workers: int
    start_seconds: float
    resident_megabytes: float
    resident_megabytes_after: float
    """After all loads."""
    half_load: PacedMeasurement
    """Features of single images at half of the server's maximum throughput."""


@dataclass(frozen=True)
class SuiteResult:
    """All measurements."""

    generator: str
    """Name of the load generator."""
    ort_alone: OrtAlone
    loads: list[LoadResult] = field(default_factory=list)
    servers: list[ServerFacts] = field(default_factory=list)

    def share(self, load: LoadResult) -> float:
        """Return the throughput of a load relative to ONNX Runtime alone."""
        return self.ort_alone.share(load.request, load.measurement.images_per_second, load.precision)

    def as_json(self) -> dict[str, Any]:
        """Return the content of bench.json; "features_64" and so on is the load with the highest throughput."""
        limits = self.ort_alone.limits["fp32"]
        servers = {f"{facts.variant}, workers {facts.workers}": asdict(facts) for facts in self.servers}
        first = self.servers[0]
        best: dict[str, Any] = {}
        for request, images in sorted({(load.request, load.images) for load in self.loads}):
            fastest = max(
                (load for load in self.loads if (load.request, load.images) == (request, images)),
                key=lambda load: load.measurement.images_per_second,
            )
            best[f"{request}_{images}"] = asdict(fastest.measurement) | {
                "share_of_ort": self.share(fastest),
                "variant": fastest.variant,
                "workers": fastest.workers,
                "concurrent": fastest.concurrent,
            }
        return {
            "machine": machine(),
            "load_generator": self.generator,
            "ort_alone": self.ort_alone.as_json(),
            "ort_images_per_second": limits["features"].images_per_second,
            "ort_generated_images_per_second": limits["generate"].images_per_second,
            "start_seconds": first.start_seconds,
            "resident_megabytes": first.resident_megabytes,
            **best,
            "servers": servers,
            "loads": [asdict(load) | {"share_of_ort": self.share(load)} for load in self.loads],
        }


def spread_over_connections(concurrent: int, seconds: float) -> Load:
    """Return a load with a number of concurrent requests on at most `CONNECTIONS` connections."""
    connections = min(CONNECTIONS, concurrent)
    return Load(connections=connections, streams=concurrent // connections, seconds=seconds)


def load_generator() -> tuple[str, Callable[[Target, Load], Measurement]]:
    """Return h2load if it is installed, otherwise the load generator in Python, with its name."""
    return ("h2load", h2load.run) if h2load.is_installed() else ("grpc.aio in Python", client_load.run)


def run_suite(
    bundle: Bundle,
    variants: Sequence[Variant],
    worker_counts: Sequence[int],
    seconds: float,
    log: Callable[[str], None],
) -> SuiteResult:
    """Run all measurements.

    Args:
        bundle: the model, in a folder of models.
        variants: configurations of the server.
        worker_counts: numbers of workers of each configuration.
        seconds: duration of each load.
        log: receives a line per measurement.

    Raises:
        BenchmarkError: a server did not start, or a request failed.
    """
    generator, run = load_generator()
    result = SuiteResult(generator, OrtAlone(bundle, seconds, precisions(variants)))
    for variant in variants:
        for workers in worker_counts:
            result.ort_alone.measure()
            with running_server(bundle.folder.parents[1], "--workers", str(workers), *variant.options) as server:
                resident = server.resident_megabytes()
                maximum = 0.0
                for request, target in _targets(server, bundle):
                    for concurrent in CONCURRENT:
                        measurement = run(target, spread_over_connections(concurrent, seconds))
                        load = LoadResult(
                            request=request,
                            variant=variant.name,
                            precision=variant.precision,
                            workers=workers,
                            images=target.images,
                            concurrent=concurrent,
                            measurement=measurement,
                        )
                        log(f"{request}, {variant.name}, workers {workers}, images {target.images}, {measurement}")
                        result.loads.append(load)
                        if (request, target.images) == ("features", 1):
                            maximum = max(maximum, measurement.requests_per_second)
                single = features_target(server.address, bundle.name, bundle.manifest, 1)
                facts = ServerFacts(
                    variant=variant.name,
                    workers=workers,
                    start_seconds=server.start_seconds,
                    resident_megabytes=resident,
                    resident_megabytes_after=server.resident_megabytes(),
                    half_load=paced.run(single, maximum / 2, seconds),
                )
                log(str(facts.half_load))
                result.servers.append(facts)
    result.ort_alone.measure()
    return result


def _targets(server: Server, bundle: Bundle) -> Iterator[tuple[Graph, Target]]:
    for images in IMAGES:
        yield "features", features_target(server.address, bundle.name, bundle.manifest, images)
    for images in IMAGES:
        yield "generate", generate_target(server.address, bundle.name, images)
