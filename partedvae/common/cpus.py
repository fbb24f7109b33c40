"""The number of processors that this process may use, and how many of them are idle.

The former is limited by the affinity mask and the quotas of the cgroups.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from partedvae.common.cgroups import controller_folders, read_kernel_file

_limit: int | None = None


def limit_cpus(count: int | None) -> None:
    """Let `available_cpus` return at most `count`, for a process that shares the machine with others like it.

    Args:
        count: processors that this process may use; None for all.
    """
    global _limit
    _limit = count


def available_cpus(root: Path = Path("/")) -> int:
    """Return the number of available processors, at least one, and at most those of `limit_cpus`.

    ONNX Runtime and thread pools count all processors of the machine by default: in a container with a quota of two on
    a machine with 64 they would start 64 threads, which are then throttled.

    Args:
        root: folder that contains `/proc` and `/sys`; another one in tests.
    """
    affinity = len(_affinity())
    quotas = [quota for quota in _quotas(root) if quota > 0]
    limits = [affinity, *(math.ceil(quota) for quota in quotas)]
    return max(1, min(limits if _limit is None else [_limit, *limits]))


def idle_cpus(
    root: Path = Path("/"), seconds: float = 0.5, sleep: Callable[[float], None] = time.sleep
) -> float | None:
    """Return how many of the processors in the affinity mask other processes leave idle, or None if it is not known.

    Args:
        root: folder that contains `/proc`; another one in tests.
        seconds: duration of the measurement, in which this process sleeps.
        sleep: waits for a number of seconds; another function in tests.
    """
    before = _idle_times(root)
    sleep(seconds)
    shares = []
    for cpu, (idle, total) in _idle_times(root).items():
        idle_before, total_before = before.get(cpu, (idle, total))
        if cpu in _affinity() and total > total_before:
            shares.append((idle - idle_before) / (total - total_before))
    return sum(shares) if shares else None


def _affinity() -> set[int]:
    """Return the processors that this process may run on."""
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _idle_times(root: Path) -> dict[int, tuple[int, int]]:
    """Return the idle time and the whole time of each processor since the start of the machine, in the same unit."""
    times = {}
    for line in read_kernel_file(root / "proc/stat").splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name != "cpu":
            # user, nice, system, idle, iowait, irq, softirq, steal; the rest is contained in the first two.
            numbers = [int(field) for field in fields[:8]]
            times[int(name.removeprefix("cpu"))] = (numbers[3] + numbers[4], sum(numbers))
    return times


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quotas, in processors, of the cgroup of this process and of its parents."""
    for folder, version in controller_folders(root, "cpu"):
        names = ("cpu.max",) if version == 2 else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        match " ".join(read_kernel_file(folder / name) for name in names).split():
            case [quota, period] if quota not in ("max", "-1"):  # of version 2 and 1, for no quota
                yield int(quota) / int(period)
