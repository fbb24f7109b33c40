"""Runs a program as a process of its own, and measures its time and memory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.serving.load import BenchmarkError

SAMPLE_SECONDS = 0.05
"""Interval at which the memory of a process is read."""
ROOT = Path(__file__).resolve().parents[2]
_RATE = re.compile(r"([\d,]+) images/s")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a program."""

    images_per_second: float
    """Without the start of the process."""
    seconds: float
    """With it."""
    cpu_seconds: float
    """Processor time of the process and of those that it started and waited for."""
    megabytes: float
    """Most memory that the process and its descendants had allocated, without files that they share."""


def run(arguments: Sequence[str]) -> Run:
    """Run a module of Python, and read its rate from its output.

    Raises:
        BenchmarkError: it failed.
    """
    command = [sys.executable, "-m", *arguments]
    started = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = psutil.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak, cpu = 0, 0.0
    while process.poll() is None:
        allocated, cpu = _usage(process, cpu)
        peak = max(peak, allocated)
        time.sleep(SAMPLE_SECONDS)
    output, errors = process.communicate()
    if process.returncode:
        raise BenchmarkError(f"{' '.join(command)} failed: {errors.strip()[-2000:]}")
    return Run(
        images_per_second=_rate(output),
        seconds=time.perf_counter() - started,
        cpu_seconds=cpu,
        megabytes=peak / 1e6,
    )


def _usage(process: psutil.Process, cpu: float) -> tuple[int, float]:
    """Return the anonymous memory and the processor time of a process and its descendants, as far as they live."""
    allocated, seconds = 0, 0.0
    try:
        for each in (process, *process.children(recursive=True)):
            times = each.cpu_times()
            seconds += times.user + times.system
            allocated += _anonymous_bytes(each.pid)
    except (psutil.Error, OSError):  # one of them has just ended
        pass
    return allocated, max(cpu, seconds)


def _anonymous_bytes(pid: int) -> int:
    found = re.search(r"^RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _rate(output: str) -> float:
    """Return the images per second of a program: of the last line, in JSON, or as our command prints it."""
    last = output.strip().splitlines()[-1] if output.strip() else ""
    if last.startswith("{"):
        facts = json.loads(last)
        return float(facts["images"] / facts["seconds"])
    found = _RATE.search(output)
    if not found:
        raise BenchmarkError(f"no rate in the output {output[-500:]!r}")
    return float(found[1].replace(",", ""))
