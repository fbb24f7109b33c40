"""A command of this package in a process of its own, whose output is read line by line."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import Sequence

LINES = 400
"""Lines that are kept."""
LINE_BYTES = 1 << 20
"""Longest line."""
GRACE_SECONDS = 20.0
"""Time to end, such as for a training run to save its checkpoint."""


class CommandProcess:
    """Runs one command at a time."""

    def __init__(self) -> None:
        """Start nothing."""
        self.lines: deque[str] = deque(maxlen=LINES)
        self.code: int | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._starting = False

    @property
    def running(self) -> bool:
        """Whether the command runs."""
        return self._starting or (self._process is not None and self._process.returncode is None)

    async def run(self, words: Sequence[str], *, apart: bool = False) -> str:
        """Run a command to its end; afterwards `code` is its exit code.

        Args:
            words: its arguments.
            apart: whether its standard output is returned, instead of being among `lines`.
        """
        self._starting, self.code = True, None
        self.lines.clear()
        try:
            # In a session of its own: Ctrl-C in the terminal ends the pages, which then end the command once.
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "partedvae", *words),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE if apart else asyncio.subprocess.STDOUT,
                limit=LINE_BYTES,
                start_new_session=True,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )
        finally:
            self._starting = False
        process = self._process
        assert process.stdout is not None
        if apart:
            assert process.stderr is not None
            output, _ = await asyncio.gather(process.stdout.read(), self._read(process.stderr))
        else:
            output = b""
            await self._read(process.stdout)
        self.code = await process.wait()
        return output.decode("utf-8", "replace")

    async def stop(self) -> None:
        """Interrupt the command, as Ctrl-C does, and wait for its end."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGINT)
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()

    async def _read(self, stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            text = line.decode("utf-8", "replace").rstrip()
            if text:
                self.lines.append(text)
