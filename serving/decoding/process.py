"""One decoding process, seen from the server: started on the first file, asked for one at a time, killed at will."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection

from partedvae.serving.decoding.job import Job, Reply

MAX_REPLY_BYTES = 1 << 16
"""Maximum of a reply that is no pixels."""
_ENVIRONMENT = {
    # One file at a time; a thread per processor would only cost memory.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # glibc then returns the memory of each image to the system at once.
    "MALLOC_TRIM_THRESHOLD_": str(1 << 20),
}


class ProcessEndedError(Exception):
    """The process ended while it decoded a file."""

    def __init__(self, code: int) -> None:
        """Create the error with the exit code, negative for a signal."""
        super().__init__(f"the process ended with exit code {code}")
        self.is_crash = code < 0
        """Whether a signal ended it. Otherwise it could not start, or has a bug."""
        self.is_out_of_time = code == -signal.SIGPROF


class DecodeProcess:
    """A process that decodes one file at a time."""

    def __init__(self) -> None:
        """Create it without starting it."""
        self._in_use = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._killed = False

    @property
    def pid(self) -> int | None:
        """Its process id; None before it is started."""
        return None if self._process is None else self._process.pid

    def decode(self, job: Job, file: Callable[[], bytes]) -> tuple[Reply, bytes]:
        """Decode a file and return kind and content of the reply. Blocks; `kill` ends it from another thread.

        Raises:
            ProcessEndedError: it was killed, crashed, or took too much processor time.
            OSError: it cannot be started.
        """
        with self._in_use:
            if self._connection is None:
                self._start()
            assert self._connection is not None
            try:
                self._connection.send_bytes(job.to_json())
                self._connection.send_bytes(file())
                kind = Reply(self._connection.recv_bytes(MAX_REPLY_BYTES).decode())
                most = job.height * job.width * job.channels if kind == Reply.PIXELS else MAX_REPLY_BYTES
                return kind, self._connection.recv_bytes(most)
            except (EOFError, OSError, ValueError) as error:
                self.kill()
                raise ProcessEndedError(self._wait()) from error

    def kill(self) -> None:
        """End it at once. Does not wait, and can be called at any time."""
        self._killed = True
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """Kill it, and wait until it has ended: some milliseconds."""
        self.kill()
        with self._in_use:
            if self._process is not None:
                self._wait()

    def _start(self) -> None:
        ours, theirs = multiprocessing.Pipe()
        # The same module search path, without the current directory (-P), which may contain a "partedvae" of its own.
        paths = os.pathsep.join(path for path in sys.path if path)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-W", "ignore", "-m", "partedvae.serving.decoding.worker", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # Decoders in C write what they think of a file.
                env=os.environ | _ENVIRONMENT | {"PYTHONPATH": paths},
                pass_fds=[theirs.fileno()],
                process_group=0,  # Ctrl-C in a terminal reaches only the server.
            )
        self._connection = ours
        if self._killed:
            self._process.kill()

    def _wait(self) -> int:
        assert self._process is not None
        code = self._process.wait()
        if self._connection is not None:
            with suppress(OSError):
                self._connection.close()
            self._connection = None
        return code
