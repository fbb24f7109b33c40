import sys
from pathlib import Path

import pytest

from partedvae.common.memory import available_memory

MEMINFO = "MemTotal: 2000 kB\nMemFree: 100 kB\nMemAvailable: 1000 kB\n"


def system(root: Path, files: dict[str, str]) -> Path:
    for name, text in {"proc/meminfo": MEMINFO, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 1_024_000),
        (
            {
                "proc/self/cgroup": "0::/pod/me\n",
                "sys/fs/cgroup/pod/memory.max": "500000\n",
                "sys/fs/cgroup/pod/memory.current": "400000\n",
                "sys/fs/cgroup/pod/memory.stat": "anon 300000\ninactive_file 50000\n",
                "sys/fs/cgroup/pod/me/memory.max": "max\n",
                "sys/fs/cgroup/pod/me/memory.current": "400000\n",
            },
            150_000,
        ),
        (
            {
                "proc/self/cgroup": "5:memory:/me\n4:cpu,cpuacct:/me\n",
                "sys/fs/cgroup/memory/me/memory.limit_in_bytes": "300000\n",
                "sys/fs/cgroup/memory/me/memory.usage_in_bytes": "320000\n",
            },
            0,
        ),
    ],
    ids=["machine", "version 2", "version 1"],
)
def test_available_memory_is_the_least_of_machine_and_groups(
    tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    """Cached files count as available, and an exceeded limit as no memory."""
    assert available_memory(system(tmp_path, files)) == expected


def test_a_system_that_does_not_report_its_memory(tmp_path: Path) -> None:
    assert available_memory(tmp_path) == sys.maxsize
