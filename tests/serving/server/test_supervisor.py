"""Tests of several processes on one port: `partedvae serve --workers`."""

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
from tests.processes import PATIENCE, SERVE, ServerProcess, running_server, wait_until
from tests.serving.faults.support import Load

pytestmark = pytest.mark.slow

OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)
"""Channels of one process otherwise share a connection, and a connection is one worker's."""


def workers_of(server: ServerProcess) -> set[int]:
    """Return the process ids of a supervisor's workers."""
    listed = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    return {int(pid) for pid in listed.split()}


def is_alive(pid: int) -> bool:
    """Tell whether a process runs."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *SERVE, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.fixture
def pair(tiny_models: Path) -> Iterator[ServerProcess]:
    """Run two workers that log each request."""
    with running_server(tiny_models, "--workers", "2", "--log-level", "debug") as server:
        yield server


def test_both_answer(pair: ServerProcess) -> None:
    """Connections are shared among the workers."""

    def lines_of(number: int) -> int:
        return pair.log_file.read_text().count(f"[worker {number}] partedvae.serving.grpc.interceptor: ")

    with ExitStack() as stack:
        while not (lines_of(1) and lines_of(2)):
            channel = stack.enter_context(grpc.insecure_channel(pair.address, options=OWN_CONNECTION))
            PartedVAEServiceStub(channel).ListModels(pb.ListModelsRequest())


def test_a_killed_worker_is_started_again(pair: ServerProcess) -> None:
    """Under load, callers of the killed worker are told UNAVAILABLE, all others are answered; no process is left."""
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
    """However the supervisor ends, no worker is left."""
    with running_server(tiny_models, "--workers", "2", must_end_well=False) as server:
        workers = workers_of(server)
        server.process.kill()
        wait_until(lambda: not any(map(is_alive, workers)))
    assert len(workers) == 2


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_second_signal(tiny_models: Path, signum: signal.Signals) -> None:
    """A second signal ends the supervisor at once, though a worker is not done; the worker ends as well."""
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


def test_others_are_kept_off_the_port(tiny_models: Path, pair: ServerProcess) -> None:
    """A second server on the port is refused, with workers or without."""
    for workers in ("1", "2"):
        result = serve(str(tiny_models), "--address", pair.address, "--workers", workers)
        assert result.returncode == 1
        assert f"Error: cannot listen on {pair.address}: Address already in use" in result.stderr
        assert result.stdout == ""


def test_a_held_port_is_not_free() -> None:
    """The port is taken from the moment that the supervisor holds it, before any worker listens; it is free again."""
    with hold_port("127.0.0.1:0") as address:
        with pytest.raises(AddressError, match="Address already in use"):
            check_free(address)
        with socket.socket() as worker:
            worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            worker.bind(("127.0.0.1", int(address.rpartition(":")[2])))
            worker.listen()
    check_free(address)


def test_what_stops_all_workers_is_told_once(tmp_path: Path) -> None:
    """What no worker can start with ends the command, as it does without workers."""
    result = serve(str(tmp_path), "--workers", "3", "--address", "127.0.0.1:0")
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.count("holds no models; export a run into it with 'partedvae export'") == 1
    assert "Traceback" not in result.stderr


def test_a_folder_called_serving_does_not_matter(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers import the server's modules, not those of the folder where the command was typed."""
    (tmp_path / "serving").mkdir()
    (tmp_path / "serving" / "__init__.py").write_text("raise RuntimeError")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    monkeypatch.chdir(tmp_path)
    with running_server(tiny_models, "--workers", "2", program=("-P", *SERVE)) as server:
        assert len(workers_of(server)) == 2
