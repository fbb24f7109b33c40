"""The memory that this process can still allocate, limited by the machine and by the cgroups."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from partedvae.common.cgroups import controller_folders, read_kernel_file


def available_memory(root: Path = Path("/")) -> int:
    """Return the available memory in bytes; `sys.maxsize` where the system does not report it.

    Args:
        root: folder that contains `/proc` and `/sys`; another one in tests.
    """
    return max(0, min([_machine(root), *_groups(root)]))


def _machine(root: Path) -> int:
    """Return what the kernel estimates to be available without swapping."""
    for line in read_kernel_file(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return sys.maxsize


def _groups(root: Path) -> Iterator[int]:
    """Yield what is left of the limits of this process's cgroup and of its parents."""
    for folder, version in controller_folders(root, "memory"):
        names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        limit, usage, statistics = (read_kernel_file(folder / name).strip() for name in (*names, "memory.stat"))
        if limit.isdecimal() and usage.isdecimal():
            yield int(limit) - int(usage) + _reclaimable(statistics)


def _reclaimable(statistics: str) -> int:
    """Return the bytes of the usage that are cached files, which the kernel frees when memory is needed."""
    fields = dict(line.split() for line in statistics.splitlines())
    return int(fields.get("inactive_file", 0))
