"""The control groups of Linux, which limit the processors and the memory of a container."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def controller_folders(root: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """Yield the folders of the group of this process and of its parents, each with its version, 1 or 2.

    Inside a container only the topmost may exist.

    Args:
        root: folder that contains `/proc` and `/sys`; another one in tests.
        controller: what the groups limit: "cpu" or "memory".
    """
    for line in read_kernel_file(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            mount, version = root / "sys/fs/cgroup", 2
        elif controller in controllers.split(","):
            mount, version = root / "sys/fs/cgroup" / controller, 1
        else:
            continue
        path = PurePosixPath(group.lstrip("/"))
        yield from ((mount / part, version) for part in (path, *path.parents))


def read_kernel_file(path: Path) -> str:
    """Return the content of a file of the kernel; empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
