"""A real server in processes of its own, as the benchmark needs it: when it answered, and what memory it holds."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from benchmarks.serving.load import BenchmarkError


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that says SERVING."""

    pid: int
    address: str
    """HOST:PORT."""
    start_seconds: float
    """From the start of the process to SERVING."""

    def resident_megabytes(self) -> float:
        """Return the resident memory of all its processes, pages that they share counted in each."""
        return round(sum(_resident_bytes(pid) for pid in _tree(self.pid)) / 1e6, 1)


@contextmanager
def running_server(models: Path, *options: str) -> Iterator[Server]:
    """Serve a folder of models on a free port of the loopback interface.

    Raises:
        BenchmarkError: it does not start.
    """
    command = [sys.executable, "-m", "partedvae", "serve", str(models), "--address", "127.0.0.1:0", *options]
    started = time.perf_counter()
    with subprocess.Popen([*command, "--log-level", "error"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line.startswith("serving on "):
                raise BenchmarkError("the server did not start; it says above why")
            address = line.split()[-1]
            with grpc.insecure_channel(address) as channel:
                status = HealthStub(channel).Check(HealthCheckRequest(), timeout=10).status
            if status != HealthCheckResponse.SERVING:
                raise BenchmarkError(f"the server at {address} is not SERVING")
            seconds = round(time.perf_counter() - started, 2)
            yield Server(pid=process.pid, address=address, start_seconds=seconds)
        finally:
            process.terminate()


def _tree(pid: int) -> Iterator[int]:
    """Yield a process and all that it started."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from _tree(int(child))


def _resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return 1024 * int(line.split()[1])
    return 0
