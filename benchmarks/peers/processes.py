"""A peer's processes: started in a session of their own, waited for, and ended together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import grpc

from benchmarks.peers.registry import Peer
from benchmarks.peers.servers.common import Settings
from benchmarks.serving.load import BenchmarkError

ATTEMPTS = 3
"""pytriton's processes give each other one second to start, which a busy machine may not have."""
PATIENCE = 120.0
"""Seconds that a peer may take to start."""


@contextmanager
def running(peer: Peer, programs: Path, settings: Settings, ask: Callable[[], object]) -> Iterator[None]:
    """Run a peer, wait until it answers, and end all its processes at the end.

    Raises:
        BenchmarkError: it does not start, or what was measured failed; with the end of its log.
    """
    with tempfile.TemporaryFile("w+") as log:
        try:
            process = _started(peer, programs, settings, ask, log)
            try:
                yield
            finally:
                _end(process)
        except (BenchmarkError, grpc.RpcError, OSError) as error:
            log.seek(0)
            raise BenchmarkError(f"{peer.name}: {error}; its log ends with:\n{log.read()[-3000:]}") from error


def _started(
    peer: Peer, programs: Path, settings: Settings, ask: Callable[[], object], log: IO[str]
) -> subprocess.Popen[bytes]:
    """Start a peer, again if it ends by itself, and wait until it answers."""
    program, *arguments = peer.command(settings)
    root = Path(__file__).resolve().parents[2]
    path = f"{programs}:/usr/local/bin:/usr/bin:/bin"
    variables = {**settings.to_environment(), "PYTHONPATH": str(root), "PATH": path, **peer.environment(settings)}
    command = [str(programs / program), *arguments]
    for attempt in range(1, ATTEMPTS + 1):
        process = subprocess.Popen(command, env=variables, stdout=log, stderr=log, start_new_session=True)
        try:
            _wait(process, ask)
        except BaseException as error:
            _end(process)
            if not isinstance(error, BenchmarkError) or attempt == ATTEMPTS:
                raise
        else:
            break
    return process


def _wait(process: subprocess.Popen[bytes], ask: Callable[[], object]) -> None:
    """Ask until there is an answer: a port is open before the model behind it is loaded."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            ask()
            return
        except (grpc.RpcError, OSError) as error:
            if process.poll() is not None or time.monotonic() > end:
                raise BenchmarkError(f"no answer came (exit code {process.poll()}): {error}") from error
        time.sleep(0.5)


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
