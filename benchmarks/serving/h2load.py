"""Load by h2load (Debian's nghttp2-client): written in C, it takes little of the processors that the server needs."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import numpy as np

from benchmarks.serving.load import BenchmarkError, Load, Measured, Target, measured

MOST_MISSING = 0.02
"""Share of the answers' bytes that may be missing: what is on its way when the time is up."""


def is_installed() -> bool:
    """Tell whether there is an h2load."""
    return shutil.which("h2load") is not None


def run(target: Target, load: Load) -> Measured:
    """Put a load on a server.

    Every 10 ms h2load sends all at once that is due by its rate, on all connections. A paced load is therefore sent by
    a process a connection; these begin at different moments.

    Raises:
        BenchmarkError: h2load failed, or requests did.
    """
    parts = (
        [load]
        if load.rate is None
        else load.connections * [replace(load, connections=1, rate=load.rate / load.connections)]
    )
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(len(parts)) as threads:
        body = Path(folder, "body")
        body.write_bytes(target.body)
        logs = [Path(folder, f"log{number}") for number in range(len(parts))]
        found = threads.map(_run, repeat(target), parts, repeat(body), logs)
        return measured(target, load, [milliseconds for part in found for milliseconds in part])


def _run(target: Target, load: Load, body: Path, log: Path) -> list[float]:
    command = [
        "h2load",
        f"--clients={load.connections}",
        f"--max-concurrent-streams={load.streams}",
        f"--duration={1000 * load.seconds:.0f}ms",
        f"--warm-up-time={1000 * load.warm_up:.0f}ms",
        f"--data={body}",
        f"--log-file={log}",
        *([f"--rps={load.rate:g}"] if load.rate else []),
        *(["--header=content-type: application/grpc", "--header=te: trailers"] if target.grpc else []),
        f"http://{target.address}{target.path}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"h2load ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")
    check_summary(done.stdout, target)
    return latencies(log.read_text(encoding="ascii"), load)


def check_summary(summary: str, target: Target) -> None:
    """Check what h2load prints at the end: no failures, and as many bytes as right answers have.

    Raises:
        BenchmarkError: requests failed.
    """
    requests = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", summary)
    traffic = re.search(r"\((\d+)\) data$", summary, re.MULTILINE)
    if requests is None or traffic is None:
        raise BenchmarkError(f"h2load printed no summary: {summary.strip()!r}")
    done, succeeded, *failed = map(int, requests.groups())
    expected = done * (target.answer_bytes + len(target.body) - len(target.message))
    if any(failed) or succeeded < done or int(traffic[1]) < (1 - MOST_MISSING) * expected - target.answer_bytes:
        raise BenchmarkError(
            f"requests to {target.address}{target.path} failed: {requests[0]}; {traffic[1]} bytes of data came, right "
            f"answers would have {expected}"
        )


def latencies(log: str, load: Load) -> list[float]:
    """Return the milliseconds of each request that ended while it was measured.

    Args:
        log: a line a request: start and duration in microseconds, with the status between.
        load: tells how long it was warmed up and measured.
    """
    rows = np.array([line.split() for line in log.splitlines()], dtype=np.int64).reshape(-1, 3)
    if not len(rows):
        return []
    ends = rows[:, 0] + rows[:, 2]
    # h2load logs from the end of its warming up on; the last of the log is the end of the measurement.
    return list((rows[ends > ends.max() - load.seconds * 1e6, 2] / 1000).tolist())
