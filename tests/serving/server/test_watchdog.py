"""Workers that do not respond are replaced; those that are only suspended with the whole machine are not."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import grpc
import pytest

from partedvae.v1.service_pb2 import ClassifyRequest
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub
from tests.fronts import GRPCIO_FRONT
from tests.processes import ServerProcess, running_server, wait_until, workers_of
from tests.scraping import METRICS, get, metrics_of
from tests.serving.faults.support import Load, images_message
from tests.serving.server.test_supervisor import OWN_CONNECTION, is_alive

pytestmark = pytest.mark.slow

WATCHED = ("--workers", "2", "--worker-timeout-seconds", "2", *METRICS)
KILLED = "did not respond for 2 s, and was killed; restarting it in 0.2 s"
ON_ALARM = """
import signal, threading, time
def handler(number, frame):
    lock = threading.Lock()
    {}
signal.signal(signal.SIGALRM, handler)
"""
"""Python runs it at each start, and the handler in the thread of the event loop."""


def classify(server: ServerProcess) -> None:
    with grpc.insecure_channel(server.address, options=OWN_CONNECTION) as channel:
        PartedVAEServiceStub(channel).Classify(ClassifyRequest(images=images_message(2)))


@pytest.mark.exhaustive
def test_stopped_worker(tiny_models: Path) -> None:
    """It is replaced, while the other one serves, and the calls that it had answered stay counted."""
    with running_server(tiny_models, *WATCHED) as server:
        for _ in range(8):  # One connection per call, so that both workers get some.
            classify(server)
        wait_until(lambda: metrics_of(server)["partedvae_requests_in_flight{}"] == 0)
        assert metrics_of(server)['partedvae_images_total{rpc="Classify"}'] == 16
        stopped, other = workers_of(server)
        os.kill(stopped, signal.SIGSTOP)
        assert metrics_of(server)['partedvae_images_total{rpc="Classify"}'] == 16
        assert get(server, "/readyz") == (200, "ok\n")
        wait_until(lambda: "accepts calls again" in server.log_file.read_text())
        assert server.log_file.read_text().count(KILLED) == 1
        assert not is_alive(stopped)
        assert workers_of(server) > {other}
        assert len(workers_of(server)) == 2
        assert metrics_of(server)['partedvae_images_total{rpc="Classify"}'] == 16
        with Load(server.address, callers=4) as load:
            wait_until(lambda: load.codes["OK"] > 50)
            load.stop()
        assert load.codes.keys() == {"OK"}, load.problems


@pytest.mark.parametrize(
    "action",
    [
        "while True: pass",
        pytest.param("lock.acquire(); lock.acquire()", marks=pytest.mark.exhaustive),
        pytest.param("time.sleep(3600)", marks=pytest.mark.exhaustive),
    ],
)
def test_event_loop_that_does_not_run(
    tiny_models: Path, tmp_path: Path, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that spins, or waits for ever, is replaced."""
    (tmp_path / "sitecustomize.py").write_text(ON_ALARM.format(action))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with running_server(tiny_models, *WATCHED) as server:
        held = min(workers_of(server))
        os.kill(held, signal.SIGALRM)
        wait_until(lambda: "accepts calls again" in server.log_file.read_text())
        assert server.log_file.read_text().count(KILLED) == 1
        assert not is_alive(held)
        classify(server)


def test_worker_that_prints(tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a library prints is in the log; it neither reaches the supervisor nor its stdout."""
    printed = 5_000_000
    (tmp_path / "sitecustomize.py").write_text(ON_ALARM.format(f"print('x' * {printed}, flush=True)"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with running_server(tiny_models, *WATCHED) as server:
        before = workers_of(server)
        os.kill(min(before), signal.SIGALRM)
        wait_until(lambda: "x" * 100 in server.log_file.read_text())
        classify(server)
        assert get(server, "/readyz") == (200, "ok\n")
        assert workers_of(server) == before
        assert server.log_file.stat().st_size < printed, "long lines are cut"
        assert resident_bytes(server.process.pid) < 60_000_000


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_no_worker_responds(tiny_models: Path) -> None:
    """Then the server is not ready, until workers have replaced them; it is alive."""
    with running_server(tiny_models, *WATCHED) as server:
        for pid in workers_of(server):
            os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: get(server, "/readyz") == (503, "not serving\n"))
        assert get(server, "/healthz") == (200, "ok\n")
        wait_until(lambda: get(server, "/readyz") == (200, "ok\n"))
        assert server.log_file.read_text().count(KILLED) == 2


@pytest.mark.exhaustive
def test_suspended_machine(tiny_models: Path) -> None:
    """A time in which the supervisor did not run either does not count."""
    with running_server(tiny_models, *WATCHED) as server:
        before = workers_of(server)
        for pid in (server.process.pid, *before):
            os.kill(pid, signal.SIGSTOP)
        time.sleep(5)
        for pid in (server.process.pid, *before):
            os.kill(pid, signal.SIGCONT)
        started = metrics_of(server)["partedvae_event_loop_lag_seconds_count{}"]
        wait_until(lambda: metrics_of(server)["partedvae_event_loop_lag_seconds_count{}"] > started + 200)
        assert workers_of(server) == before
        assert "was killed" not in server.log_file.read_text()


@pytest.mark.exhaustive
def test_no_further_process_can_be_started(tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker is restarted as soon as the system can start processes again; until then the others serve."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.symlink_to(Path(sys.executable).resolve())
    (tmp_path / "lib").symlink_to(Path(sys.prefix) / "lib")
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", tmp_path)
    monkeypatch.setattr(sys, "executable", str(python))
    with running_server(tiny_models, *WATCHED) as server:
        python.rename(tmp_path / "away")
        os.kill(min(workers_of(server)), signal.SIGKILL)
        reason = "cannot start a process: No such file or directory; restarting it in"
        wait_until(lambda: server.log_file.read_text().count(reason) == 2)
        assert get(server, "/readyz") == (200, "ok\n")
        classify(server)
        (tmp_path / "away").rename(python)
        wait_until(lambda: "accepts calls again" in server.log_file.read_text())
        assert len(workers_of(server)) == 2


@pytest.mark.usefixtures("each_front")
@GRPCIO_FRONT
def test_calls_outlast_a_pause_of_the_event_loop(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as on a busy machine: calls that have arrived meanwhile are answered."""
    (tmp_path / "sitecustomize.py").write_text(ON_ALARM.format("time.sleep(2.5)"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with running_server(tiny_models) as server, grpc.insecure_channel(server.address) as channel:
        stub = PartedVAEServiceStub(channel)
        stub.Classify(ClassifyRequest(images=images_message(2)))
        server.process.send_signal(signal.SIGALRM)
        calls = [stub.Classify.future(ClassifyRequest(images=images_message(2))) for _ in range(8)]
        assert [call.code() for call in calls] == [grpc.StatusCode.OK] * 8
