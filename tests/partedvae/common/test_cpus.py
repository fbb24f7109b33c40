"""The number of processors, from affinity and cgroups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from partedvae.common.cpus import available_cpus


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
