"""The number of processors, from affinity and cgroups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from partedvae.common.cpus import available_cpus, idle_cpus


@pytest.fixture(autouse=True)
def _eight_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_no_cgroup(tmp_path: Path) -> None:
    """Without a cgroup the affinity is the limit."""
    assert available_cpus(tmp_path) == 8


@pytest.mark.parametrize(
    ("own", "above", "expected"),
    [("max 100000", "max 100000", 8), ("150000 100000", "max 100000", 2), ("max 100000", "300000 100000", 3)],
)
def test_version_2(tmp_path: Path, own: str, above: str, expected: int) -> None:
    """A quota is rounded up; quotas of parent groups apply as well."""
    write(tmp_path / "proc/self/cgroup", "0::/a/b\n")
    write(tmp_path / "sys/fs/cgroup/a/b/cpu.max", own)
    write(tmp_path / "sys/fs/cgroup/a/cpu.max", above)
    assert available_cpus(tmp_path) == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", 8), ("400000", 4), ("10000", 1)])
def test_version_1_in_a_container(tmp_path: Path, quota: str, expected: int) -> None:
    """In a container the path of the group does not exist; its quota is in the topmost folder."""
    write(tmp_path / "proc/self/cgroup", "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n")
    write(tmp_path / "sys/fs/cgroup/cpu/cpu.cfs_quota_us", quota)
    write(tmp_path / "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000")
    assert available_cpus(tmp_path) == expected


def stat(*processors: tuple[int, int, int, int, int, int, int, int]) -> str:
    """Return the contents of /proc/stat: user, nice, system, idle, iowait, irq, softirq and steal of each processor."""
    rows = [("cpu", *map(sum, zip(*processors, strict=True))), *((f"cpu{k}", *row) for k, row in enumerate(processors))]
    return "".join(" ".join(map(str, (*row, 0, 0))) + "\n" for row in rows) + "intr 7 0\nctxt 12\n"


def test_idle_processors_are_those_that_other_programs_did_not_use_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 100 ticks: 90 idle and 5 waiting for a disk, 40 idle, 0 idle; a fourth processor is not ours."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    write(tmp_path / "proc/stat", stat(*[(50, 0, 20, 1000, 5, 1, 1, 0)] * 4))
    waited = []

    def work(seconds: float) -> None:
        waited.append(seconds)
        rows = [
            (55, 0, 20, 1090, 10, 1, 1, 0),
            (80, 10, 30, 1040, 5, 3, 3, 6),
            (50, 100, 20, 1000, 5, 1, 1, 0),
            (50, 0, 20, 1100, 5, 1, 1, 0),
        ]
        write(tmp_path / "proc/stat", stat(*rows))

    assert idle_cpus(tmp_path, 0.25, work) == pytest.approx(0.95 + 0.4 + 0.0)
    assert waited == [0.25]


def test_idle_processors_are_unknown_without_proc(tmp_path: Path) -> None:
    assert idle_cpus(tmp_path, 0, lambda seconds: None) is None
