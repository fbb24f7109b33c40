"""Tests of the bounds of an attack: each broken one is a problem that names the value."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from subprocess import Popen
from unittest.mock import create_autospec

import pytest

from benchmarks.attack.bounds import MB, Bounds, Service, log_problems, outcome_problems
from benchmarks.attack.good_client import CLASSIFY, PROBE, Call
from benchmarks.attack.server import AttackedServer, ServerOptions
from benchmarks.attack.target import Target
from benchmarks.attack.usage import Usage

TRACEBACK_PROBLEM = """tracebacks in the log, first 'KeyError: 7"}' after '{"message": "'"""
IDLE = Usage(memory_bytes=100 * MB, threads=20, files=30, processes=3)
OPTIONS = ServerOptions(
    arguments=(), workers=2, memory_mb=256, max_message_mb=8, token="the-secret-token", log_is_json=True
)
TARGET = Target(
    address="127.0.0.1:1",
    metrics_address="",
    token="the-secret-token",
    model="tiny",
    versions=(1,),
    image_shape=(8, 6, 1),
    latent_dims=(3, 4),
    factor="digit",
    max_message_bytes=8 * MB,
    max_images=4096,
    max_pixels=25_000_000,
)


def server_with(log_file: Path, options: ServerOptions = OPTIONS) -> AttackedServer:
    return AttackedServer(process=create_autospec(Popen), target=TARGET, options=options, log_file=log_file)


@pytest.fixture
def bounds(tmp_path: Path) -> Bounds:
    return Bounds.of(server_with(tmp_path / "log"), IDLE)


def test_the_bound_is_the_idle_usage_plus_budgets(bounds: Bounds) -> None:
    """Each of the two workers may use its budget of 256 MiB and 96 MiB more, and keep a quarter of the budget."""
    assert bounds.peak_bytes == (100 + 2 * (256 + 96)) * MB
    assert bounds.recovered_bytes == (100 + 2 * (64 + 96)) * MB


def test_a_server_recovers_when_memory_threads_and_files_go_back(bounds: Bounds) -> None:
    assert bounds.unrecovered(IDLE) == []
    large = Usage(memory_bytes=500 * MB, threads=1000, files=500, processes=3)
    assert bounds.unrecovered(large) == [
        "keeps 500 MiB, above 420",
        "keeps 1000 threads, above 148",
        "keeps 500 open files, above 94",
    ]


def test_failed_and_unanswered_calls_are_failures_of_the_good_client() -> None:
    calls = [
        Call(kind=CLASSIFY, start=0.0, seconds=0.002),
        Call(kind=CLASSIFY, start=1.0, seconds=5.0, error="DeadlineError: late"),
        Call(kind=PROBE, start=1.5, seconds=0.25),
        Call(kind=PROBE, start=2.0),
    ]
    service = Service.of(calls)
    assert (service.calls, service.failures, service.slowest_probe_ms) == (4, 2, 250.0)
    assert service.problems(p99_ms=10_000) == [
        "2 of 4 calls of the good client failed: classify: DeadlineError: late; probe: no answer"
    ]
    assert service.problems(p99_ms=1000)[1:] == ["the good client's p99 was 4,950 ms, above 1,000"]


def test_a_good_client_without_calls_proves_nothing() -> None:
    assert Service.of([]).problems(p99_ms=1000) == ["the good client made no calls"]


def test_faults_among_the_answers() -> None:
    assert outcome_problems(Counter({"OK": 3, "INVALID_ARGUMENT": 2})) == []
    assert outcome_problems(Counter({"OK": 3, "INTERNAL": 2})) == ["2 requests were INTERNAL"]
    assert outcome_problems(Counter()) == ["the attack sent nothing"]


def test_faults_in_the_log(tmp_path: Path) -> None:
    """Only what was logged during the attack counts, and the last line may be incomplete."""
    log_file = tmp_path / "log"
    earlier = "Traceback of an earlier attack\n"
    log_file.write_text(earlier + '{"a": 1}\n{"b"')
    assert log_problems(log_file, len(earlier), server_with(log_file)) == []
    record = json.dumps({"message": "Traceback (most recent call last):\n  File\nKeyError: 7"})
    log_file.write_text(f"{record}\nE0000 bad handshake the-secret-token\n")
    assert log_problems(log_file, 0, server_with(log_file)) == [
        TRACEBACK_PROBLEM,
        "the token is in the log",
        "1 lines of the log are no JSON, first 'E0000 bad handshake the-secret-token'",
    ]
    in_text = server_with(log_file, replace(OPTIONS, log_is_json=False, token=""))
    assert log_problems(log_file, 0, in_text) == [TRACEBACK_PROBLEM]
