"""The command of `make bench-peers`: measures each server alone under the same load, and prints tables of all."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import partial
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
from benchmarks.peers import environments
from benchmarks.peers.measure import OURS, Result, measure_ours, measure_peer
from benchmarks.peers.registry import PEERS, Peer
from benchmarks.peers.report import as_json, report
from benchmarks.serving import h2load
from benchmarks.serving.load import BenchmarkError
from benchmarks.serving.ort_alone import OrtAlone
from benchmarks.serving.variants import front_option, precisions, variants
from partedvae.common.click_paths import LocalPath
from partedvae.common.cpus import available_cpus
from partedvae.serving.bundle import Bundle


@click.command()
@output_option()
@model_options()
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
@click.option(
    "--only",
    multiple=True,
    type=click.Choice([OURS, *(peer.package for peer in PEERS)]),
    help="Server to measure; repeatable.  [default: all]",
)
@front_option
@seconds_option(5.0, "Per load; there are five for each server, and four more for each of ours.")
@document_option
def main(
    output: Path,
    models: Path,
    name: str,
    folder: Path,
    python: str,
    only: tuple[str, ...],
    front: tuple[str, ...],
    seconds: float,
    document: Path | None,
) -> None:
    """Compare with mosec, KServe's SDK, MLServer and pytriton on one encoder.onnx. Needs h2load."""
    if not h2load.is_installed():
        raise click.ClickException("h2load is not installed; Debian's package is nghttp2-client")
    bundle = newest_bundle(models, name)
    ours = variants(bundle, front) if not only or OURS in only else []
    ort_alone = OrtAlone(bundle, seconds, precisions(ours))
    results: list[Result] = []
    failures: list[str] = []

    def measure(server: str, measurement: Callable[[], Iterable[Result]]) -> None:
        """Measure one server; its failure does not stop the measurement of the others."""
        click.echo(f"{server} …", err=True)
        try:
            ort_alone.measure()
            results.extend(measurement())
        except BenchmarkError as error:
            click.echo(f"{server}: {error}", err=True)
            failures.append(server)

    for peer in PEERS:
        if not only or peer.package in only:
            measure(peer.name, partial(_measure_installed, peer, folder, python, bundle, seconds))
    for variant in ours:
        for workers in sorted({1, available_cpus()}):
            measure(
                f"{OURS}, {variant.name}, workers {workers}", partial(measure_ours, bundle, variant, workers, seconds)
            )
    measure("ONNX Runtime alone", lambda: ())
    if results:
        text = report(ort_alone, results)
        click.echo(text)
        write_results(output, as_json(ort_alone, results), None if failures else document, "bench-peers", text)
    if failures:
        raise click.ClickException(f"not measured, see above: {'; '.join(failures)}")


def _measure_installed(peer: Peer, folder: Path, python: str, bundle: Bundle, seconds: float) -> list[Result]:
    programs = environments.ensure(peer, folder, python)
    return [measure_peer(peer, f"{peer.name} {environments.version(peer, programs)}", programs, bundle, seconds)]


if __name__ == "__main__":
    main()
