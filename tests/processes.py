"""Runs a real server in its own process: starts it, waits until it is ready, stops it with SIGTERM."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SERVE = ("-m", "partedvae", "serve")
PATIENCE = 120.0
"""Timeout in seconds of everything that tests wait for."""


@dataclass(frozen=True, kw_only=True)
class ServerProcess:
    """A running server."""

    process: subprocess.Popen[str]
    address: str
    """HOST:PORT."""
    log_file: Path
    """Its stderr."""

    def stop(self) -> int:
        """Send SIGTERM, wait and return the exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE)


@contextmanager
def running_server(
    models_dir: Path, *options: str, program: Sequence[str] = SERVE, must_end_well: bool = True
) -> Iterator[ServerProcess]:
    """Run `partedvae serve` on a free port of the loopback interface within the block.

    Args:
        models_dir: folder of models.
        options: further options of the command.
        program: arguments of Python that run the command.
        must_end_well: whether to assert that the exit code is 0.
    """
    with tempfile.TemporaryDirectory() as folder:
        log_file = Path(folder) / "stderr"
        with log_file.open("w") as log:
            process = subprocess.Popen(
                [sys.executable, *program, str(models_dir), "--address", "127.0.0.1:0", *options],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        with process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                assert line.startswith("serving on "), f"the server did not start:\n{log_file.read_text()}"
                server = ServerProcess(process=process, address=line.split()[-1], log_file=log_file)
                yield server
                code = server.stop()
                assert not must_end_well or code == 0, f"exit code {code}:\n{log_file.read_text()}"
                rest = process.stdout.read()
                assert rest == "", f"more than one line on stdout: {rest!r}"
            finally:
                process.kill()


def workers_of(server: ServerProcess) -> set[int]:
    """Return the process ids of the workers of a server; another child writes the log."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    return {int(pid) for pid in children.split() if _is_worker(pid)}


def _is_worker(pid: str) -> bool:
    try:
        return b"partedvae.serving.server.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition is true; fail after `PATIENCE` seconds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)
