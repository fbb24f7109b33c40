"""The memory that this process can still allocate, limited by the machine and by the cgroups."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def available_memory(root: Path = Path("/")) -> int:
    """Return the available memory in bytes; `sys.maxsize` where the system does not report it.

    Args:
        root: folder that contains `/proc` and `/sys`; another one in tests.
    """
    return max(0, min([_machine(root), *_groups(root)]))


def _machine(root: Path) -> int:
    """Return what the kernel estimates to be available without swapping."""
    for line in _read(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return sys.maxsize


def _groups(root: Path) -> Iterator[int]:
    """Yield what is left of the limits of this process's cgroup and of its parents."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "":  # version 2
            mount, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "memory.stat")
        elif "memory" in controllers.split(","):  # version 1
            mount = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")
        else:
            continue
        path = PurePosixPath(group.lstrip("/"))
        for folder in (mount / part for part in (path, *path.parents)):
            limit, usage, statistics = (_read(folder / name).strip() for name in names)
            if limit.isdecimal() and usage.isdecimal():
                yield int(limit) - int(usage) + _reclaimable(statistics)


def _reclaimable(statistics: str) -> int:
    """Return the bytes of the usage that are cached files, which the kernel frees when memory is needed."""
    fields = dict(line.split() for line in statistics.splitlines())
    return int(fields.get("inactive_file", 0))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""
