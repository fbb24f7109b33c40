"""How many processors this process may use."""

from __future__ import annotations

import os


def available_cpus() -> int:
    """Return the processors of this process's affinity mask, where the system has one, else the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
