"""A server in processes of its own, with its start-up time and resident memory."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from benchmarks.serving.load import BenchmarkError


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server whose health is SERVING."""

    pid: int
    address: str
    """HOST:PORT."""
    start_seconds: float
    """Time from the start of the process to SERVING."""

    def resident_megabytes(self) -> float:
        """Return the resident memory of all its processes, with shared pages counted in each."""
        return round(resident_bytes(self.pid) / 1e6, 1)


@contextmanager
def running_server(models: Path, *options: str) -> Iterator[Server]:
    """Serve a folder of models on a free port of the loopback interface.

    Raises:
        BenchmarkError: the server did not start.
    """
    command = [sys.executable, "-m", "partedvae", "serve", str(models), "--address", "127.0.0.1:0", *options]
    started = time.perf_counter()
    with subprocess.Popen([*command, "--log-level", "error"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line.startswith("serving on "):
                raise BenchmarkError("the server did not start; see its output above")
            address = line.split()[-1]
            with grpc.insecure_channel(address) as channel:
                status = HealthStub(channel).Check(HealthCheckRequest(), timeout=10).status
            if status != HealthCheckResponse.SERVING:
                raise BenchmarkError(f"the server at {address} is not SERVING")
            seconds = round(time.perf_counter() - started, 2)
            yield Server(pid=process.pid, address=address, start_seconds=seconds)
        finally:
            process.terminate()


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process and all its descendants; 0 when it has ended."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += each.memory_info().rss
    return total
