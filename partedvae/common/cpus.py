"""How many processors this process may use: the affinity mask and the cgroup's quota, not the machine's count."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def available_cpus(root: Path = Path("/")) -> int:
    """Return the number of processors to use, at least one.

    ONNX Runtime and thread pools count the machine's processors, and in a container with a quota of two on a machine
    with 64 they would start 64 threads that throttle each other.

    Args:
        root: where `/proc` and `/sys` are found; tests point it elsewhere.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for quota in _quotas(root) if quota > 0]
    return max(1, min([affinity, *(math.ceil(quota) for quota in quotas)]))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quotas, in processors, of this process's cgroup and of the groups above it."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "":  # version 2
            for folder in _and_parents(root / "sys/fs/cgroup", group):
                match _read(folder / "cpu.max").split():
                    case [quota, period] if quota != "max":
                        yield int(quota) / int(period)
        elif "cpu" in controllers.split(","):  # version 1; the quota is -1 where there is none
            for folder in _and_parents(root / "sys/fs/cgroup/cpu", group):
                quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
                if quota and period:
                    yield int(quota) / int(period)


def _and_parents(mount: Path, group: str) -> list[Path]:
    """Return the folders of a group and of all groups above it; inside a container only the topmost may exist."""
    path = PurePosixPath(group.lstrip("/"))
    return [mount / part for part in (path, *path.parents)]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""
