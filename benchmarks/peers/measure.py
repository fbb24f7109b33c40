"""The loads of each server: the most requests that it can answer, fixed rates, and what only ours can do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.peers.processes import free_ports, running_peer
from benchmarks.peers.registry import MODEL_INFER, Peer, infer_request
from benchmarks.peers.servers.common import Settings
from benchmarks.serving import concurrent_client, h2load, paced
from benchmarks.serving.load import Load, Measurement, Target
from benchmarks.serving.paced import PacedMeasurement
from benchmarks.serving.requests import feature_names, features_target, generate_target, grpc_target, pixels
from benchmarks.serving.server import Server, running_server
from benchmarks.serving.variants import Variant
from partedvae.common.cpus import available_cpus
from partedvae.serving.bundle import Bundle, factor_output

OURS = "partedvae"
STREAMS = {1: 32, 64: 8}
"""Concurrent requests on each connection, by images per request."""
CONNECTIONS = 4
RATES = (1_000.0, 5_000.0, 10_000.0)
"""Requests per second of single images for which latencies are measured."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """The measurements of one server, or of one of its APIs."""

    server: str
    start_seconds: float
    """From the start of the process to the first response of a peer, or to SERVING of ours."""
    resident_megabytes: float
    """Memory of all processes when the server is ready, with shared pages counted in each."""
    resident_megabytes_after: float
    """The same after the loads."""
    features: dict[int, Measurement]
    """As many requests as the server answers, by images per request."""
    paced: list[PacedMeasurement]
    """Features of single images, at each of `RATES`."""
    generate: dict[int, Measurement] = field(default_factory=dict)
    """Generated images, by images per request; peers serve the encoder only."""
    clients: dict[str, Measurement] = field(default_factory=dict)
    """Calls of our client, by its configuration."""
    precision: str = "fp32"
    """Numbers that the encoder computes with."""

    @property
    def is_ours(self) -> bool:
        """Whether this is our server with its own API."""
        return bool(self.generate)


def measure_peer(peer: Peer, name: str, programs: Path, bundle: Bundle, seconds: float) -> Result:
    """Measure another server.

    Args:
        peer: the server.
        name: its name in the tables.
        programs: the `bin` folder of its environment.
        bundle: has the encoder.
        seconds: duration of each load.

    Raises:
        BenchmarkError: the server did not start, or a request failed.
    """
    port, *others = free_ports(4)
    spec = bundle.manifest.image
    settings = Settings(
        graph=str(bundle.encoder_path),
        image=(spec.height, spec.width, spec.channels),
        outputs={
            factor_output(factor.name, kind): dim
            for factor in bundle.manifest.factors
            for kind, dim in (("probs", len(factor.class_names)), ("u_mean", factor.u_dim))
        },
        cpus=available_cpus(),
        port=port,
        other_ports=tuple(others),
    )

    def target(images: int) -> Target:
        array = pixels(bundle.manifest, images)
        return peer.target(f"127.0.0.1:{port}", array.tobytes(), array.shape, settings)

    with running_peer(peer, programs, settings, probe=lambda: target(1)) as server:
        return _measure(name, server, server.resident_megabytes(), target, seconds)


def measure_ours(bundle: Bundle, variant: Variant, workers: int, seconds: float) -> Iterator[Result]:
    """Measure our server through its own API, and through the Open Inference Protocol with the peers' requests.

    Args:
        bundle: the model, in a folder of models.
        variant: configuration of the server.
        workers: number of its workers.
        seconds: duration of each load.

    Raises:
        BenchmarkError: the server did not start, or a request failed.
    """
    name = f"{OURS}, {variant.name}, {workers} worker{'s' * (workers > 1)}"
    with running_server(bundle.folder.parents[1], "--workers", str(workers), *variant.options) as server:

        def target(images: int) -> Target:
            return features_target(server.address, bundle.name, bundle.manifest, images)

        def oip_target(images: int) -> Target:
            array = pixels(bundle.manifest, images)
            outputs = tuple(feature_names(bundle.manifest))
            message = infer_request(f"{bundle.name}.encoder", array.tobytes(), array.shape, outputs)
            return grpc_target(server.address, MODEL_INFER, message, images)

        resident = server.resident_megabytes()
        generate = _throughput(lambda images: generate_target(server.address, bundle.name, images), seconds)
        clients = {
            client: concurrent_client.run(server.address, bundle, seconds, options)
            for client, options in concurrent_client.client_options().items()
        }
        own = _measure(name, server, resident, target, seconds)
        yield replace(own, generate=generate, clients=clients, precision=variant.precision)
        oip = _measure(f"{name}, Open Inference Protocol", server, resident, oip_target, seconds)
        yield replace(oip, precision=variant.precision)


def _measure(
    name: str, server: Server, resident_megabytes: float, target: Callable[[int], Target], seconds: float
) -> Result:
    features = _throughput(target, seconds)
    single = target(1)
    return Result(
        server=name,
        start_seconds=server.start_seconds,
        resident_megabytes=resident_megabytes,
        features=features,
        paced=[paced.run(single, rate, seconds) for rate in RATES],
        resident_megabytes_after=server.resident_megabytes(),
    )


def _throughput(target: Callable[[int], Target], seconds: float) -> dict[int, Measurement]:
    return {
        images: h2load.run(target(images), Load(connections=CONNECTIONS, streams=streams, seconds=seconds))
        for images, streams in STREAMS.items()
    }
