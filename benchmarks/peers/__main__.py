"""The command of `make bench-peers`: measures each server alone under the same load, and prints one table."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from benchmarks.peers import environments
from benchmarks.peers.processes import free_ports, running_peer
from benchmarks.peers.registry import MODEL_INFER, PEERS, Peer, infer_request
from benchmarks.peers.servers.common import Settings
from benchmarks.serving import h2load
from benchmarks.serving.load import BenchmarkError, Load, Measurement, Target
from benchmarks.serving.machine import describe, machine
from benchmarks.serving.requests import encoder_baseline, features_target, grpc_target, pixels
from benchmarks.serving.server import running_server
from benchmarks.serving.tables import replace_section, table
from partedvae.common.click_paths import LocalPath
from partedvae.common.cpus import available_cpus
from partedvae.serving.bundle import Bundle, factor_output, load_bundle
from partedvae.serving.bundle_files import versions_of
from partedvae.serving.errors import ServingError

STREAMS = {1: 32, 64: 8}
"""Concurrent requests on each connection, by images per request."""
CONNECTIONS = 4

Results = dict[int, Measurement]


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
@click.option(
    "--environments",
    "folder",
    type=LocalPath(path_type=Path),
    default=Path("build/peers"),
    show_default=True,
    help="Folder of the servers' virtual environments.",
)
@click.option(
    "--python", default=sys.executable, help="Python for the environments; pytriton needs one with libpython."
)
@click.option("--only", multiple=True, type=click.Choice([peer.package for peer in PEERS]), help="Repeatable.")
@click.option("--seconds", type=click.FloatRange(min=0.1), default=5.0, show_default=True, help="Per load.")
@click.option("--document", type=LocalPath(path_type=Path), help="Markdown file to update.")
def main(
    output: Path,
    models: Path,
    name: str,
    folder: Path,
    python: str,
    only: tuple[str, ...],
    seconds: float,
    document: Path | None,
) -> None:
    """Compare with mosec, KServe's SDK, MLServer and pytriton on one encoder.onnx. Needs h2load."""
    if not h2load.is_installed():
        raise click.ClickException("h2load is not installed; Debian's package is nghttp2-client")
    versions = versions_of(models / name)
    if not versions:
        raise click.ClickException(
            f"{models / name} contains no version of a model; 'make demo' writes one to demo/models"
        )
    try:
        bundle = load_bundle(models.resolve() / name / str(versions[-1]))
        baseline = encoder_baseline(bundle.folder, bundle.manifest, seconds)
        click.echo(f"ONNX Runtime alone: {baseline:,.0f} images/s", err=True)
        results: dict[str, Results] = {}
        for peer in PEERS:
            if not only or peer.package in only:
                click.echo(f"{peer.name} …", err=True)
                programs = environments.ensure(peer, folder, python)
                label = f"{peer.name} {environments.version(peer, programs)}"
                results[label] = _measure_peer(peer, programs, bundle, seconds)
        for workers in sorted({1, available_cpus()}):
            click.echo(f"partedvae, {workers} workers …", err=True)
            results |= _measure_partedvae(bundle, workers, seconds)
        text = _report(baseline, results)
        click.echo(text)
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(_as_json(baseline, results), indent=2) + "\n", encoding="utf-8")
        if document:
            replace_section(document, "bench-peers", text)
    except (ServingError, BenchmarkError) as error:
        raise click.ClickException(str(error)) from error


def _measure_peer(peer: Peer, programs: Path, bundle: Bundle, seconds: float) -> Results:
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

    with running_peer(peer, programs, settings, probe=lambda: target(1)):
        return _measure(target, seconds)


def _measure_partedvae(bundle: Bundle, workers: int, seconds: float) -> dict[str, Results]:
    """Measure our server through its own API, and through the Open Inference Protocol with the peers' requests."""
    label = f"partedvae, {workers} worker{'s' * (workers > 1)}"
    outputs = [factor_output(f.name, kind) for f in bundle.manifest.factors for kind in ("probs", "u_mean")]
    with running_server(bundle.folder.parents[1], "--workers", str(workers)) as server:

        def oip_target(images: int) -> Target:
            array = pixels(bundle.manifest, images)
            message = infer_request(f"{bundle.name}.encoder", array.tobytes(), array.shape, tuple(outputs))
            return grpc_target(server.address, MODEL_INFER, message, images)

        return {
            label: _measure(
                lambda images: features_target(server.address, bundle.name, bundle.manifest, images), seconds
            ),
            f"{label}, Open Inference Protocol": _measure(oip_target, seconds),
        }


def _measure(target: Callable[[int], Target], seconds: float) -> Results:
    return {
        images: h2load.run(target(images), Load(connections=CONNECTIONS, streams=streams, seconds=seconds))
        for images, streams in STREAMS.items()
    }


def _report(baseline: float, results: dict[str, Results]) -> str:
    header = (
        "server",
        "1 image per request, requests/s",
        "p99 ms",
        "64 images per request, images/s",
        "of ORT alone",
    )
    rows = [
        (
            name,
            f"{loads[1].requests_per_second:,.0f}",
            f"{loads[1].p99_ms:.1f}",
            f"{loads[64].images_per_second:,.0f}",
            f"{loads[64].images_per_second / baseline:.0%}",
        )
        for name, loads in results.items()
    ]
    load = " and ".join(
        f"{CONNECTIONS} x {streams} concurrent requests of {images}" for images, streams in STREAMS.items()
    )
    return "\n\n".join(
        [
            f"{describe(machine())} Load by h2load on the same processors: {load} image(s).",
            f"ONNX Runtime alone, batches of 64: {baseline:,.0f} images/s.",
            table(header, rows),
        ]
    )


def _as_json(baseline: float, results: dict[str, Results]) -> dict[str, Any]:
    servers = {
        name: {f"features_{images}": asdict(measurement) for images, measurement in loads.items()}
        for name, loads in results.items()
    }
    return {"machine": machine(), "ort_images_per_second": baseline, "servers": servers}


if __name__ == "__main__":
    main()
