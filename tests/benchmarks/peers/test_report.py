"""Tests of the tables of `make bench-peers`, and of a run of our server alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.peers import __main__, measure
from benchmarks.peers.__main__ import main
from benchmarks.peers.measure import RATES, Result
from benchmarks.peers.report import report
from benchmarks.serving import h2load, ort_alone
from benchmarks.serving.load import Measurement
from benchmarks.serving.ort_alone import Limit, OrtAlone
from benchmarks.serving.paced import PacedMeasurement
from partedvae.serving.bundle import load_bundle


def rate(requests: float, images: int = 1) -> Measurement:
    return Measurement(
        requests_per_second=requests, images_per_second=images * requests, p50_ms=1.0, p90_ms=2.0, p99_ms=3.0
    )


def paced(*p99s: float | None) -> list[PacedMeasurement]:
    """Return measurements with a p99 at each rate; None is a rate that was not kept."""
    return [
        PacedMeasurement(
            rate=each,
            achieved=each if p99 else 1234.0,
            p50_ms=p99 and p99 / 2,
            p90_ms=p99,
            p99_ms=p99,
            generator_cpus=0.1,
            generator_late_ms=0.1,
        )
        for each, p99 in zip(RATES, p99s, strict=True)
    ]


def result(server: str, single: float, bulk: float, p99s: list[PacedMeasurement], **more: object) -> Result:
    return Result(
        server=server,
        start_seconds=0.31,
        resident_megabytes=106.4,
        resident_megabytes_after=133.0,
        features={1: rate(single), 64: rate(bulk / 64, 64)},
        paced=p99s,
        **more,  # type: ignore[arg-type]
    )


PEERS = [
    result("mosec", 10_000, 20_000, paced(2.0, 9.0, None)),
    result("other", 1_000, 22_000, paced(4.0, None, None)),
]
OURS = [
    result(
        f"partedvae, {front}, 1 worker",
        single,
        24_000,
        paced(1.5, p99, None),
        generate={1: rate(single / 2), 64: rate(300, 64)},
        clients={"one message per call": rate(2_000), "coalesced": rate(11_000)},
    )
    for front, single, p99 in (("grpcio", 5_000, None), ("native", 15_000, 4.5))
]
INT8 = replace(
    OURS[1],
    server="partedvae, native, int8, 1 worker",
    precision="int8",
    features={1: rate(16_000), 64: rate(40_000 / 64, 64)},
)


@pytest.fixture
def alone(tiny_models: Path) -> OrtAlone:
    """Return limits of 30,000 and 24,000 images per second, and of 50,000 with int8."""
    alone = OrtAlone(load_bundle(tiny_models / "tiny" / "1"), seconds=1.0, precisions=("fp32", "int8"))
    for graph, images_per_second in (("features", 30_000.0), ("generate", 24_000.0)):
        limit = Limit(images_per_second=images_per_second, processes=2, threads=1, rows=64)
        alone.limits["fp32"][graph] = limit  # type: ignore[index]
        alone.limits["int8"][graph] = replace(limit, images_per_second=50_000.0)  # type: ignore[index]
    return alone


def test_the_tables(alone: OrtAlone) -> None:
    """Every server has its throughput, start and memory, and its latency at each rate or the rate that it reached."""
    lines = report(alone, [*PEERS, *OURS, INT8]).splitlines()
    assert "| partedvae, native, int8, 1 worker | 16,000 | 1.0 / 3.0 | 40,000 | 80% | 0.31 | 106 / 133 |" in lines
    assert "| mosec | 10,000 | 1.0 / 3.0 | 20,000 | 67% | 0.31 | 106 / 133 |" in lines
    assert "| mosec | 1.0 / 2.0 | 4.5 / 9.0 | not kept: 1,234/s |" in lines
    assert "| partedvae, native, 1 worker | 7,500 | 1.0 / 3.0 | 19,200 | 80% |" in lines
    assert "| partedvae, native, 1 worker | coalesced | 11,000 | 1.0 / 3.0 | 5.50 |" in lines


def test_the_comparison(alone: OrtAlone) -> None:
    """Our best is divided by the best of the others, which differs by figure; int8 is not compared with their fp32."""
    lines = report(alone, [*PEERS, *OURS, INT8]).splitlines()
    assert "| features of 1 image, requests/s | 15,000 (native, 1 worker) | 10,000 (mosec) | 1.50 | – |" in lines
    assert "| features of 64 images, images/s | 24,000 (grpcio, 1 worker) | 22,000 (other) | 1.09 | 80% |" in lines
    assert "| features of 1 image at 5,000 requests/s, p99 ms | 4.5 (native, 1 worker) | 9.0 (mosec) | – | – |" in lines
    assert "| features of 1 image at 10,000 requests/s, p99 ms | not kept | not kept | – | – |" in lines
    assert "| generate 1 image, requests/s | 7,500 (native, 1 worker) | – | – | – |" in lines
    assert "| generate 64 images, images/s | 19,200 (grpcio, 1 worker) | – | – | 80% |" in lines


def test_without_others_or_ours(alone: OrtAlone) -> None:
    """What was not measured has no figure."""
    assert "| features of 1 image, requests/s | 15,000 (native, 1 worker) | – | – | – |" in report(alone, OURS)
    assert "partedvae," not in report(alone, PEERS).partition("Load by h2load")[2]


@pytest.mark.slow
@pytest.mark.skipif(not h2load.is_installed(), reason="h2load is not installed")
def test_a_run_of_ours_alone(tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--only partedvae` measures both APIs of our server, and writes all figures."""
    monkeypatch.setattr(__main__, "available_cpus", lambda: 1)
    monkeypatch.setattr(ort_alone, "BATCHES", (4,))
    monkeypatch.setattr(measure, "RATES", (20.0,))
    output = tmp_path / "peers.json"
    arguments = ["--output", str(output), "--models", str(tiny_models), "--name", "tiny", "--only", "partedvae"]
    done = CliRunner().invoke(main, [*arguments, "--front", "grpcio", "--seconds", "2"])
    assert done.exit_code == 0, done.output
    servers = json.loads(output.read_text())["servers"]
    assert list(servers) == [
        "partedvae, grpcio, 1 worker",
        "partedvae, grpcio, 1 worker, Open Inference Protocol",
    ]
    for figures in servers.values():
        assert figures["features"]["64"]["images_per_second"] > 0
        assert figures["paced"][0]["rate"] == 20.0
        assert figures["start_seconds"] > 0
        assert figures["resident_megabytes"] > 0
    own = servers["partedvae, grpcio, 1 worker"]
    assert own["generate"]["1"]["requests_per_second"] > 0
    assert own["clients"]["one message per call"]["requests_per_second"] > 0
    assert "| partedvae, grpcio, 1 worker, Open Inference Protocol | " in done.output


@pytest.mark.slow
@pytest.mark.skipif(not h2load.is_installed(), reason="h2load is not installed")
def test_a_server_that_fails(tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error is printed, the others are measured, and the document keeps its table."""
    monkeypatch.setattr(__main__, "available_cpus", lambda: 1)
    monkeypatch.setattr(ort_alone, "available_cpus", lambda: 1)
    monkeypatch.setattr(ort_alone, "BATCHES", (4,))
    monkeypatch.setattr(measure, "RATES", (20.0,))
    output, document = tmp_path / "peers.json", tmp_path / "doc.md"
    document.write_text("<!-- bench-peers:begin -->\nold\n<!-- bench-peers:end -->\n")
    arguments = ["--output", str(output), "--models", str(tiny_models), "--name", "tiny", "--document", str(document)]
    arguments += ["--environments", str(tmp_path), "--python", "/bin/false", "--only", "mosec", "--only", "partedvae"]
    done = CliRunner().invoke(main, [*arguments, "--front", "grpcio", "--seconds", "2"])
    assert done.exit_code == 1, done.output
    assert "mosec (HTTP): /bin/false -m venv" in done.output
    assert done.output.endswith("Error: not measured, see above: mosec (HTTP)\n"), done.output
    assert next(iter(json.loads(output.read_text())["servers"])) == "partedvae, grpcio, 1 worker"
    assert "old" in document.read_text()
