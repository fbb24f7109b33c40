"""A worker process as its supervisor sees it: starts it, reads its reports, and kills it when it no longer responds."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from partedvae.serving.config.logging import inherited_descriptors
from partedvae.serving.config.serve_config import ServeConfig
from partedvae.serving.server.report import MAX_BYTES, WorkerReport
from partedvae.serving.server.signals import blocked_for_children
from partedvae.serving.server.state import BEAT_SECONDS

START_SECONDS = 1800.0
"""Time until a worker process that starts is killed. Engines of TensorRT are built for minutes."""
LAST_SECONDS = 2.0
"""Time for reading the last reports of a process that has ended, whose own children may keep the connection open."""
SILENT_BEATS = 6
"""A worker process that misses so many beats is no longer ready, and not asked for its metrics."""
STDERR = 2


class WorkerProcess:
    """A running worker process."""

    def __init__(
        self, process: Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        """Create it for a process that has been started; see `start`."""
        self.number = number
        self.report = WorkerReport()
        """The last report."""
        self.fault = ""
        """Why the supervisor has killed it."""
        self._process = process
        self._reader = reader
        self._writer = writer
        self._missed = 0
        self._reported = asyncio.Event()

    @classmethod
    async def start(cls, config: ServeConfig, number: int) -> Self:
        """Start a worker process.

        Args:
            config: its configuration.
            number: its number, from 1, for the log.

        Raises:
            OSError: the system cannot start a process.
        """
        # The same module search path, without the current directory (-P), which may contain a "partedvae" of its own.
        paths = os.pathsep.join(path for path in sys.path if path)
        ours, theirs = socket.socketpair()
        try:
            with theirs, blocked_for_children():
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-P", "-m", "partedvae.serving.server.worker", str(theirs.fileno()),
                    stdin=DEVNULL,
                    stdout=STDERR,  # What libraries print is for the log.
                    env=os.environ | {"PYTHONPATH": paths},
                    pass_fds=[theirs.fileno(), *inherited_descriptors()],
                    process_group=0,  # Ctrl-C in a terminal reaches only the supervisor.
                )  # fmt: skip
        except BaseException:
            ours.close()
            raise
        reader, writer = await asyncio.open_connection(sock=ours, limit=MAX_BYTES)
        writer.write(pickle.dumps((config, number)))
        return cls(process, reader, writer, number)

    @property
    def is_ready(self) -> bool:
        """Whether its services are SERVING, as far as is known."""
        return self.report.ready and self._missed < SILENT_BEATS

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the process has ended."""
        # Not by the method of the process, which may reap the exit code that asyncio waits for.
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    async def refresh(self, seconds: float) -> None:
        """Ask for a report and wait for it, for some seconds at most, if the process responds at all."""
        if not self.report.accepts_calls or self._missed >= SILENT_BEATS:
            return
        self._reported.clear()
        with suppress(OSError, TimeoutError):
            self._writer.write(b"?")
            await asyncio.wait_for(self._reported.wait(), seconds)

    async def wait(self, timeout_seconds: float, on_report: Callable[[Self], None]) -> int:
        """Read reports until the process has ended, and return its exit code.

        Args:
            timeout_seconds: time without a beat after which it is killed.
            on_report: called after each report.
        """
        reading = asyncio.create_task(self._read(on_report))
        watching = asyncio.create_task(self._watch(timeout_seconds))
        code = await self._process.wait()
        watching.cancel()
        await asyncio.wait([reading], timeout=LAST_SECONDS)
        reading.cancel()
        self._writer.transport.abort()
        return code

    async def _read(self, on_report: Callable[[Self], None]) -> None:
        try:
            while line := await self._reader.readline():
                previous, self.report = self.report, WorkerReport.from_line(line)
                if self.report.beats != previous.beats:
                    self._missed = 0
                self._reported.set()
                on_report(self)
        except ValueError as error:  # Not a report, or a line above the limit.
            self._kill(f"sent what is not a report, and was killed: {error}")
        except OSError:
            pass

    async def _watch(self, timeout_seconds: float) -> None:
        """Kill the process when its event loop does not run.

        Counts the beats that it misses rather than the time: nothing beats while the whole machine is suspended.
        """
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            self._missed += 1
            started = self.report.accepts_calls
            if self._missed * BEAT_SECONDS >= (timeout_seconds if started else START_SECONDS):
                self._kill(
                    f"did not respond for {timeout_seconds:g} s, and was killed"
                    if started
                    else f"did not start within {START_SECONDS:g} s, and was killed"
                )
                return

    def _kill(self, fault: str) -> None:
        self.fault = fault
        self.send_signal(signal.SIGKILL)
