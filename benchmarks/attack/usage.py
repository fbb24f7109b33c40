"""Samples the memory, threads and open files of a server with all its processes."""

from __future__ import annotations

import os
import re
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

INTERVAL = 0.1
"""Seconds between samples."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What the processes of a server use together."""

    memory_bytes: int
    """Proportional set size where the system has it, so that shared pages count once; resident memory elsewhere."""
    threads: int
    files: int
    processes: int

    def __or__(self, other: Usage) -> Usage:
        """Return the larger of each value."""
        return Usage(
            memory_bytes=max(self.memory_bytes, other.memory_bytes),
            threads=max(self.threads, other.threads),
            files=max(self.files, other.files),
            processes=max(self.processes, other.processes),
        )


NOTHING = Usage(memory_bytes=0, threads=0, files=0, processes=0)


def usage_of(pid: int) -> Usage:
    """Return the usage of a process and all its descendants; zeros when it has ended."""
    memory = threads = files = processes = 0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                memory += memory_of(process)
                threads += process.num_threads()
                files += process.num_fds()
                processes += 1
    return Usage(memory_bytes=memory, threads=threads, files=files, processes=processes)


def memory_of(process: psutil.Process) -> int:
    """Return the memory of a process in bytes."""
    with suppress(OSError):
        rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii")
        if match := re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE):
            return 1024 * int(match[1])
    return process.memory_info().rss


class Sampler:
    """Samples the usage of a server in a thread within the block, and kills it above a ceiling."""

    def __init__(self, pid: int, ceiling_bytes: int) -> None:
        """Prepare to sample.

        Args:
            pid: process of the server.
            ceiling_bytes: memory at which the server is killed, so that the machine survives its attack.
        """
        self.peak = NOTHING
        """The largest usage since the last `reset`."""
        self.killed = False
        """Whether the server was killed."""
        self._pid = pid
        self._ceiling = ceiling_bytes
        self._armed = False
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopped.set()
        self._thread.join()

    def reset(self) -> None:
        """Begin a new peak; the ceiling holds from the first one on."""
        with self._lock:
            self.peak = NOTHING
            self._armed = True

    def _sample(self) -> None:
        while not self._stopped.wait(INTERVAL):
            usage = usage_of(self._pid)
            with self._lock:
                self.peak |= usage
            if self._armed and usage.memory_bytes > self._ceiling:
                self.killed = True
                kill_tree(self._pid)
                return


def kill_tree(pid: int) -> None:
    """Kill a process and its descendants, the children last, since they may be restarted by it."""
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.kill()


def limit_of_files() -> None:
    """Raise the limit of open files of this process as far as it may: floods need a thousand sockets."""
    if os.name == "posix":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
