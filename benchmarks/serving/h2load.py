"""Load generator h2load (Debian's package nghttp2-client), which needs little processor time."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.serving.load import BenchmarkError, Load, Measurement, Target, summarize

MAX_MISSING = 0.02
"""Fraction of the response bytes that may be missing: those still in flight at the end."""


def is_installed() -> bool:
    """Return whether h2load is installed."""
    return shutil.which("h2load") is not None


def run(target: Target, load: Load) -> Measurement:
    """Run a load.

    Raises:
        BenchmarkError: h2load or a request failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder, "body"), Path(folder, "log")
        body.write_bytes(target.body)
        return summarize(target, load, _run(target, load, body, log))


def _run(target: Target, load: Load, body: Path, log: Path) -> list[float]:
    command = [
        "h2load",
        f"--clients={load.connections}",
        f"--max-concurrent-streams={load.streams}",
        f"--duration={1000 * load.seconds:.0f}ms",
        f"--warm-up-time={1000 * load.warm_up:.0f}ms",
        f"--data={body}",
        f"--log-file={log}",
        *(["--header=content-type: application/grpc", "--header=te: trailers"] if target.grpc else []),
        f"http://{target.address}{target.path}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"h2load failed with exit code {done.returncode}: {(done.stderr or done.stdout).strip()}")
    check_summary(done.stdout, target)
    return latencies(log.read_text(encoding="ascii"), load)


def check_summary(summary: str, target: Target) -> None:
    """Check the summary that h2load prints: no request failed, and the responses have the expected size.

    Raises:
        BenchmarkError: requests failed.
    """
    requests = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", summary)
    traffic = re.search(r"\((\d+)\) data$", summary, re.MULTILINE)
    if requests is None or traffic is None:
        raise BenchmarkError(f"h2load printed no summary: {summary.strip()!r}")
    done, succeeded, *failed = map(int, requests.groups())
    expected = done * (target.response_bytes + len(target.body) - len(target.message))
    if any(failed) or succeeded < done or int(traffic[1]) < (1 - MAX_MISSING) * expected - target.response_bytes:
        raise BenchmarkError(
            f"requests to {target.address}{target.path} failed: {requests[0]}; received {traffic[1]} bytes of data, "
            f"expected {expected}"
        )


def latencies(log: str, load: Load) -> list[float]:
    """Return the latencies in milliseconds of the requests that completed during the measurement.

    Args:
        log: one line per request: start in microseconds, status, duration in microseconds.
        load: the load, for the duration of the measurement.
    """
    rows = np.array([line.split() for line in log.splitlines()], dtype=np.int64).reshape(-1, 3)
    if not len(rows):
        return []
    ends = rows[:, 0] + rows[:, 2]
    # h2load logs from the end of the warm-up; the last completion is the end of the measurement.
    return list((rows[ends > ends.max() - load.seconds * 1e6, 2] / 1000).tolist())
