"""Tests of `partedvae serve --workers`: several worker processes on one port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from partedvae.serving.config.addresses import check_free, hold_port
from partedvae.serving.errors import AddressError
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub
from tests.processes import PATIENCE, SERVE, ServerProcess, running_server, wait_until, workers_of
from tests.serving.faults.support import Load

pytestmark = pytest.mark.slow

OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)
"""Without it the channels of a process share one connection, and therefore one worker."""


def is_alive(pid: int) -> bool:
    """Report whether a process is running."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):  # It may end while its file is read.
        return False


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *SERVE, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.fixture
def pair(tiny_models: Path) -> Iterator[ServerProcess]:
    """Run two workers that log each call."""
    with running_server(tiny_models, "--workers", "2", "--log-level", "debug") as server:
        yield server


@pytest.mark.exhaustive
def test_both_workers_get_connections(pair: ServerProcess) -> None:
    """Connections are distributed among the workers."""

    def lines_of(number: int) -> int:
        return pair.log_file.read_text().count(f"[worker {number}] partedvae.serving.grpc.call_record: ")

    with ExitStack() as stack:
        while not (lines_of(1) and lines_of(2)):
            channel = stack.enter_context(grpc.insecure_channel(pair.address, options=OWN_CONNECTION))
            PartedVAEServiceStub(channel).ListModels(pb.ListModelsRequest())


def test_killed_worker_is_restarted(pair: ServerProcess) -> None:
    """Under load only calls to the killed worker fail, with UNAVAILABLE; no process is left at the end."""
    killed = min(before := workers_of(pair))
    with Load(pair.address, callers=6) as load:
        wait_until(lambda: load.codes["OK"] > 50)
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: "accepts calls again" in pair.log_file.read_text())
        answered = load.codes["OK"]
        wait_until(lambda: load.codes["OK"] > answered + 50)
        load.stop()
        assert load.codes.keys() <= {"OK", "UNAVAILABLE"}, load.problems
    after = workers_of(pair)
    assert len(after) == 2
    assert before - after == {killed}
    assert "was ended by SIGKILL; restarting it in 0.2 s" in pair.log_file.read_text()
    assert pair.stop() == 0
    assert not any(map(is_alive, before | after))


def test_workers_end_with_their_supervisor(tiny_models: Path) -> None:
    """Workers stop when their supervisor is killed."""
    with running_server(tiny_models, "--workers", "2", must_end_well=False) as server:
        workers = workers_of(server)
        server.process.kill()
        wait_until(lambda: not any(map(is_alive, workers)))
    assert len(workers) == 2


@pytest.mark.parametrize("signum", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.exhaustive)])
def test_second_signal(tiny_models: Path, signum: signal.Signals) -> None:
    """A second signal ends the supervisor immediately, although a worker is still running; the worker stops as well."""
    with running_server(tiny_models, "--workers", "2", must_end_well=False) as server:
        busy, idle = workers_of(server)
        os.kill(busy, signal.SIGSTOP)
        server.process.send_signal(signum)
        wait_until(lambda: not is_alive(idle))
        assert server.process.poll() is None
        server.process.send_signal(signum)
        assert server.process.wait(PATIENCE) == -signum
        os.kill(busy, signal.SIGCONT)
        wait_until(lambda: not is_alive(busy))


@pytest.mark.exhaustive
def test_port_is_exclusive(tiny_models: Path, pair: ServerProcess) -> None:
    """A second server on the same port fails, with or without workers."""
    for workers in ("1", "2"):
        result = serve(str(tiny_models), "--address", pair.address, "--workers", workers)
        assert result.returncode == 1
        assert f"Error: cannot listen on {pair.address}: Address already in use" in result.stderr
        assert result.stdout == ""


def test_held_port_is_not_free() -> None:
    """The port is in use while the supervisor holds it, also before a worker listens, and free afterwards."""
    with hold_port("127.0.0.1:0") as address:
        with pytest.raises(AddressError, match="Address already in use"):
            check_free(address)
        with socket.socket() as worker:
            worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            worker.bind(("127.0.0.1", int(address.rpartition(":")[2])))
            worker.listen()
    check_free(address)


def test_start_failure_is_reported_once(tmp_path: Path) -> None:
    """An error that prevents all workers from starting ends the command, as without workers."""
    result = serve(str(tmp_path), "--workers", "2", "--address", "127.0.0.1:0")
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.count("holds no models; export a run into it with 'partedvae export'") == 1
    assert "Traceback" not in result.stderr


@pytest.mark.exhaustive
def test_working_directory_is_not_imported(tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers do not import modules from the working directory."""
    (tmp_path / "serving").mkdir()
    (tmp_path / "serving" / "__init__.py").write_text("raise RuntimeError")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    monkeypatch.chdir(tmp_path)
    with running_server(tiny_models, "--workers", "2", program=("-P", *SERVE)) as server:
        assert len(workers_of(server)) == 2
