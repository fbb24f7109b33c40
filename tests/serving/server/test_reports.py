"""Reports of workers: their form, and workers that send something else."""

from __future__ import annotations

import json
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
from prometheus_client import Metric
from prometheus_client.registry import Collector

from partedvae.serving.config.serve_config import ServeConfig
from partedvae.serving.metrics.aggregation import Family
from partedvae.serving.server import worker_process
from partedvae.serving.server.report import MAX_BYTES, WorkerReport
from partedvae.serving.server.reporter import Reporter
from partedvae.serving.server.state import ServerState
from partedvae.serving.server.worker_process import WorkerProcess
from tests.processes import PATIENCE

REPORT = {"accepts_calls": True, "ready": True, "beats": 3, "error": "", "metrics": None}


def family(samples: int) -> Family:
    name = "partedvae_queue_rows"
    return Family(
        name, "Images in the queue.", "gauge", [(name, {"model": "ü" * 100}, float(i)) for i in range(samples)]
    )


@pytest.mark.parametrize(
    "report",
    [
        WorkerReport(),
        WorkerReport(error="there is no model\nin 'ä'"),
        WorkerReport(accepts_calls=True, ready=True, beats=12, metrics=[family(3)]),
        WorkerReport(accepts_calls=True, metrics=[]),
    ],
)
def test_round_trip(report: WorkerReport) -> None:
    """A report is one line, whatever its texts are."""
    line = report.to_line()
    assert line.count(b"\n") == 1
    assert WorkerReport.from_line(line) == report


def test_too_many_metrics() -> None:
    """They are left out, so that the supervisor still gets the state."""
    report = WorkerReport(accepts_calls=True, beats=7, metrics=[family(20_000)])
    line = report.to_line()
    assert len(line) < MAX_BYTES
    assert WorkerReport.from_line(line) == WorkerReport(accepts_calls=True, beats=7)


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"ready\n",
        b"\xff\xfe\n",
        b"[1, 2]\n",
        b"{}\n",
        b"null\n",
        b"[" * 100_000,
        *(
            json.dumps(REPORT | change).encode()
            for change in (
                {"beats": "3"},
                {"ready": 1},
                {"error": None},
                {"more": 1},
                {"metrics": 5},
                {"metrics": [["a", "b", "gauge"]]},
                {"metrics": [["a", "b", "summary", []]]},
                {"metrics": [["a", "b", "gauge", [["a", {}]]]]},
                {"metrics": [["a", "b", "gauge", [["a", {}, "1"]]]]},
                {"metrics": [["a", "b", "gauge", [["a", None, 1]]]]},
            )
        ),
    ],
)
def test_what_is_not_a_report(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"^b['\"].* is not a report of a worker$"):
        WorkerReport.from_line(line)


@pytest.fixture
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return the supervisor's and the worker's end of a connection."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs
        ours.shutdown(socket.SHUT_RDWR)


def test_supervisor_that_does_not_read(connected: tuple[socket.socket, socket.socket]) -> None:
    """Neither the event loop nor the end of a worker waits for a supervisor that is stopped."""
    ours, theirs = connected
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    ended = Event()
    reporter = Reporter(theirs, ServerState(), ended.set)
    reporter.error = "x" * 1_000_000
    for _ in range(1000):
        reporter.beat()
    reporter.close()
    assert not ended.is_set()
    ours.shutdown(socket.SHUT_RDWR)
    assert ended.wait(PATIENCE)


def test_metrics_that_fail(connected: tuple[socket.socket, socket.socket], caplog: pytest.LogCaptureFixture) -> None:
    """A worker whose metrics fail goes on to report its state, and logs the error once."""

    class Failing(Collector):
        def collect(self) -> list[Metric]:
            raise ZeroDivisionError("a bug")

    ours, theirs = connected
    reporter = Reporter(theirs, ServerState(), lambda: None)
    reporter.metrics = Failing()
    with ours.makefile("rb") as lines:
        for _ in range(3):
            ours.sendall(b"?")
            assert WorkerReport.from_line(lines.readline()) == WorkerReport()
    assert [record.message for record in caplog.records] == [
        "collecting metrics failed; this worker reports no more of them"
    ]
    assert "ZeroDivisionError: a bug" in caplog.text


def fake_python(folder: Path, sends: str) -> Path:
    """Write a program that runs some lines instead of a worker, and then does nothing."""
    program = folder / "python"
    program.write_text(
        f"#!{sys.executable}\n"
        "import socket, sys, time\n"
        "connection = socket.socket(fileno=int(sys.argv[-1]))\n"
        f"{sends}\ntime.sleep(3600)\n"
    )
    program.chmod(0o755)
    return program


async def test_worker_that_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has longer than one that has started, although its event loop does not run yet, but not for ever."""
    monkeypatch.setattr(sys, "executable", str(fake_python(tmp_path, "pass")))
    monkeypatch.setattr(worker_process, "START_SECONDS", 1.5)
    worker = await WorkerProcess.start(ServeConfig(models_dir=tmp_path), 1)
    assert not worker.is_ready
    assert await worker.wait(0.5, lambda worker: None) == -9
    assert worker.fault == "did not start within 1.5 s, and was killed"


@pytest.mark.parametrize(
    ("sends", "fault"),
    [
        ("connection.sendall(b'Loading ...\\n')", r"^sent what is not a report, and was killed: b'Loading ...\\n' is "),
        ("[connection.sendall(b'x' * 65536) for _ in iter(int, 1)]", r"^sent what is not a report, and was killed: "),
        ("[connection.sendall(b'\\n' * 65536) for _ in iter(int, 1)]", r"^sent what is not a report, and was killed: "),
    ],
    ids=["line", "endless", "lines"],
)
async def test_worker_that_sends_something_else(
    tmp_path: Path, sends: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed, and the supervisor keeps no more than the limit of a line."""
    monkeypatch.setattr(sys, "executable", str(fake_python(tmp_path, sends)))
    monkeypatch.setattr(worker_process, "MAX_BYTES", 1_000_000)
    worker = await WorkerProcess.start(ServeConfig(models_dir=tmp_path), 1)
    reports: list[WorkerReport] = []
    assert await worker.wait(3600, lambda worker: reports.append(worker.report)) == -9
    assert reports == []
    assert re.match(fault, worker.fault)
