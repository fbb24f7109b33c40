"""Tests of the load generators: requests, latencies, and failures, which must not count as results."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from benchmarks.serving import client_load, h2load
from benchmarks.serving.load import BenchmarkError, Load, Measurement, Target, summarize
from benchmarks.serving.requests import features_target, generate_target, pixels
from benchmarks.serving.server import running_server
from benchmarks.serving.suite import spread_over_connections
from tests.bundles import GREY
from tests.processes import ServerProcess

TARGET = Target(address="host:1", path="/a.B/C", message=b"abc", response_bytes=10, images=4)
LOAD = Load(connections=2, streams=2, seconds=0.5)
SUMMARY = """
finished in 1.00s, 100.00 req/s, 1.5KB/s
requests: 100 total, 104 started, 100 done, {succeeded} succeeded, {failed} failed, 0 errored, 0 timeout
status codes: 100 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 4.5KB (4600) total, 1.0KB (1000) headers (space savings 90.00%), 1.5KB ({data}) data
"""


def test_a_body_is_framed() -> None:
    """GRPC messages are prefixed with a zero byte and their length; other bodies are sent as they are."""
    assert TARGET.body == b"\0\0\0\0\x03abc"
    assert dataclasses.replace(TARGET, grpc=False).body == b"abc"


def test_summary_of_latencies() -> None:
    """Rates count the requests completed in the time, latencies are percentiles."""
    result = summarize(TARGET, LOAD, list(range(1, 102)))
    assert result == Measurement(
        requests_per_second=202.0, images_per_second=808.0, p50_ms=51.0, p90_ms=91.0, p99_ms=100.0
    )
    with pytest.raises(BenchmarkError, match=r"host:1/a\.B/C completed no request within 0\.5 s"):
        summarize(TARGET, LOAD, [])


@pytest.mark.parametrize(("concurrent", "connections", "streams"), [(1, 1, 1), (8, 8, 1), (32, 8, 4), (64, 8, 8)])
def test_requests_are_spread(concurrent: int, connections: int, streams: int) -> None:
    """Concurrent requests share at most eight connections."""
    load = spread_over_connections(concurrent, 1.0)
    assert (load.connections, load.streams, load.concurrent) == (connections, streams, concurrent)


def test_h2load_with_successful_responses() -> None:
    """The received bytes may lack those that were in flight at the end."""
    h2load.check_summary(SUMMARY.format(succeeded=100, failed=0, data=1500), TARGET)
    h2load.check_summary(SUMMARY.format(succeeded=100, failed=0, data=1485), TARGET)


@pytest.mark.parametrize(("succeeded", "failed", "data"), [(99, 1, 1500), (100, 0, 0), (100, 0, 1400)])
def test_h2load_with_failures(succeeded: int, failed: int, data: int) -> None:
    """GRPC errors have HTTP status 200, and are recognized by the number of bytes."""
    with pytest.raises(BenchmarkError, match="failed: 100 done"):
        h2load.check_summary(SUMMARY.format(succeeded=succeeded, failed=failed, data=data), TARGET)


def test_h2load_without_a_summary() -> None:
    """The error quotes output that is not a summary."""
    with pytest.raises(BenchmarkError, match="printed no summary: 'nonsense'"):
        h2load.check_summary("nonsense\n", TARGET)


def test_latencies_from_the_log() -> None:
    """Requests that completed before the measurement do not count."""
    log = "1000000\t200\t5000\n1400000\t200\t20000\n1890000\t200\t10000\n"
    assert h2load.latencies(log, LOAD) == [20.0, 10.0]
    assert h2load.latencies("", LOAD) == []


@pytest.mark.slow
def test_a_real_load(server: ServerProcess) -> None:
    """The load generator in Python measures both requests."""
    manifest = GREY.manifest()
    for target in (
        features_target(server.address, "tiny", manifest, 2),
        generate_target(server.address, "tiny", 2),
    ):
        result = client_load.run(target, LOAD)
        assert result.images_per_second == pytest.approx(2 * result.requests_per_second, rel=0.01)
        assert 0 < result.p50_ms <= result.p90_ms <= result.p99_ms


@pytest.mark.slow
@pytest.mark.skipif(not h2load.is_installed(), reason="h2load is not installed")
def test_h2load(server: ServerProcess) -> None:
    """Output and log of h2load are understood, for successful responses and for errors."""
    target = features_target(server.address, "tiny", GREY.manifest(), 2)
    assert h2load.run(target, LOAD).requests_per_second > 0
    with pytest.raises(BenchmarkError, match="failed"):
        h2load.run(dataclasses.replace(target, message=b"\xff\xff"), LOAD)


def test_a_failed_request_fails_the_measurement(server: ServerProcess) -> None:
    """The error contains the status, or the unexpected length of the response."""
    target = features_target(server.address, "tiny", GREY.manifest(), 2)
    with pytest.raises(BenchmarkError, match="failed: INVALID_ARGUMENT"):
        client_load.run(dataclasses.replace(target, message=b""), LOAD)
    with pytest.raises(BenchmarkError, match=r"a response has \d+ bytes, expected 1$"):
        client_load.run(dataclasses.replace(target, response_bytes=1), LOAD)


@pytest.mark.slow
def test_start_and_memory_of_a_server(tiny_models: Path) -> None:
    """The server becomes SERVING, and the memory of all its processes is summed."""
    with running_server(tiny_models, "--workers", "2") as server:
        assert server.start_seconds > 0
        assert server.resident_megabytes() > 3 * 20


@pytest.mark.slow
def test_a_server_that_does_not_start(tmp_path: Path) -> None:
    """The benchmark fails with a message."""
    with pytest.raises(BenchmarkError, match="the server did not start"), running_server(tmp_path):
        pass


def test_images_of_requests() -> None:
    """Requests contain uint8 images of the model's size."""
    array = pixels(GREY.manifest(), 3)
    assert array.shape == (3, 8, 6, 1)
    assert array.dtype == np.uint8
