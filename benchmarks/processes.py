"""A peer's processes: started in a session of their own, waited for, and ended together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc

from benchmarks.peers.common import Settings
from benchmarks.registry import Peer
from serving.benchmark.load import BenchmarkError

PATIENCE = 120.0
"""Seconds that a peer may take to start."""
SETTLING = 5.0
"""Seconds between the port's opening and the first request: models are loaded after the port is open."""


@contextmanager
def running(peer: Peer, programs: Path, settings: Settings) -> Iterator[None]:
    """Run a peer, wait until it listens, and end all its processes at the end.

    Raises:
        BenchmarkError: it does not start, or what was measured failed; with the end of its log.
    """
    program, *arguments = peer.command(settings)
    root = Path(__file__).resolve().parents[1]
    path = f"{programs}:/usr/local/bin:/usr/bin:/bin"
    variables = {**settings.to_environment(), "PYTHONPATH": str(root), "PATH": path, **peer.environment(settings)}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [str(programs / program), *arguments], env=variables, stdout=log, stderr=log, start_new_session=True
        )
        try:
            _wait_for(settings.port, process)
            yield
        except (BenchmarkError, grpc.RpcError) as error:
            log.seek(0)
            raise BenchmarkError(f"{peer.name}: {error}; its log ends with:\n{log.read()[-3000:]}") from error
        finally:
            _end(process)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until somebody listens; whether requests are answered shows when the first is sent."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                time.sleep(SETTLING)
                return
        time.sleep(0.2)
    raise BenchmarkError(f"nothing listens on port {port} (exit code {process.poll()})")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a peer with its children, which are in its session."""
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback interface that nobody listens on at this moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports
