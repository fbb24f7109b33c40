"""The processes of a peer: start them in a session of their own, wait until they are ready, and stop them all."""

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
from benchmarks.serving.server import Server

START_ATTEMPTS = 3
"""pytriton's processes wait only one second for each other, which is too short on a busy machine."""
PROBE_SECONDS = 0.1
"""Interval of the requests that find out whether a peer is ready."""
START_TIMEOUT = 120.0
"""Seconds after which a peer that does not respond has failed to start."""


@contextmanager
def running_peer(peer: Peer, programs: Path, settings: Settings, probe: Callable[[], object]) -> Iterator[Server]:
    """Run a peer for the duration of the block; its start ends with the first response.

    Args:
        peer: the server to run.
        programs: the `bin` folder of its environment.
        settings: model and ports.
        probe: sends one request; the peer is ready when it returns.

    Raises:
        BenchmarkError: the peer did not start, or the block failed; the message includes the end of the peer's log.
    """
    with tempfile.TemporaryFile("w+") as log:
        try:
            process, seconds = _start(peer, programs, settings, probe, log)
            try:
                yield Server(pid=process.pid, address=f"127.0.0.1:{settings.port}", start_seconds=seconds)
            finally:
                _stop(process)
        except (BenchmarkError, grpc.RpcError, OSError) as error:
            log.seek(0)
            raise BenchmarkError(f"{peer.name}: {error}; its log ends with:\n{log.read()[-3000:]}") from error


def _start(
    peer: Peer, programs: Path, settings: Settings, probe: Callable[[], object], log: IO[str]
) -> tuple[subprocess.Popen[bytes], float]:
    """Start a peer, with retries, and wait until it is ready; return the seconds from its start to that time."""
    program, *arguments = peer.command(settings)
    root = Path(__file__).resolve().parents[2]
    path = f"{programs}:/usr/local/bin:/usr/bin:/bin"
    variables = {**settings.to_environment(), "PYTHONPATH": str(root), "PATH": path, **peer.environment(settings)}
    command = [str(programs / program), *arguments]
    for attempt in range(1, START_ATTEMPTS + 1):
        started = time.perf_counter()
        process = subprocess.Popen(command, env=variables, stdout=log, stderr=log, start_new_session=True)
        try:
            _wait_until_ready(process, probe)
        except BaseException as error:
            _stop(process)
            if not isinstance(error, BenchmarkError) or attempt == START_ATTEMPTS:
                raise
        else:
            break
    return process, round(time.perf_counter() - started, 2)


def _wait_until_ready(process: subprocess.Popen[bytes], probe: Callable[[], object]) -> None:
    """Repeat a request until it succeeds: servers open their port before the model is loaded."""
    end = time.monotonic() + START_TIMEOUT
    while True:
        try:
            probe()
            return
        except (grpc.RpcError, OSError) as error:
            if process.poll() is not None or time.monotonic() > end:
                raise BenchmarkError(f"the server did not respond (exit code {process.poll()}): {error}") from error
        time.sleep(PROBE_SECONDS)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a peer and its children, which belong to its session."""
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def free_ports(count: int) -> list[int]:
    """Return currently unused ports of the loopback interface."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports
