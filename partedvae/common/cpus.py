"""The number of processors available to this process: limited by its affinity mask and the quotas of its cgroups."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def available_cpus(root: Path = Path("/")) -> int:
    """Return the number of available processors, at least one.

    ONNX Runtime and thread pools count all processors of the machine by default: in a container with a quota of two on
    a machine with 64 they would start 64 threads, which are then throttled.

    Args:
        root: folder that contains `/proc` and `/sys`; another one in tests.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for quota in _quotas(root) if quota > 0]
    return max(1, min([affinity, *(math.ceil(quota) for quota in quotas)]))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quotas, in processors, of the cgroup of this process and of its parents."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "":  # version 2
            for folder in _and_parents(root / "sys/fs/cgroup", group):
                match _read(folder / "cpu.max").split():
                    case [quota, period] if quota != "max":
                        yield int(quota) / int(period)
        elif "cpu" in controllers.split(","):  # version 1, where -1 is no quota
            for folder in _and_parents(root / "sys/fs/cgroup/cpu", group):
                quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
                if quota and period:
                    yield int(quota) / int(period)


def _and_parents(mount: Path, group: str) -> list[Path]:
    """Return the folders of a group and of its parents; inside a container only the topmost may exist."""
    path = PurePosixPath(group.lstrip("/"))
    return [mount / part for part in (path, *path.parents)]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""
