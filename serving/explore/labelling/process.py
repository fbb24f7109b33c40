"""A command of this package in a process of its own, whose output is read line by line."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

LINES = 400
"""Lines that are kept."""
LINE_BYTES = 1 << 20
"""Longest line."""
GRACE_SECONDS = 75.0
"""Time to end, such as for a training run to save its checkpoint; longer than `partedvae suggest` gives to the training
that it has started."""
NOT_STARTED = 127
"""Exit code of a command that could not be started, as shells have it."""


class CommandProcess:
    """Runs one command at a time."""

    def __init__(self) -> None:
        """Start nothing."""
        self.lines: deque[str] = deque(maxlen=LINES)
        self.code: int | None = None
        self.words: list[str] = []
        """Arguments of the command that was started last."""
        self._process: asyncio.subprocess.Process | None = None
        self._starting = False

    @property
    def running(self) -> bool:
        """Whether the command runs."""
        return self._starting or (self._process is not None and self._process.returncode is None)

    async def run(self, words: Sequence[str], *, apart: bool = False) -> str:
        """Run a command to its end; afterwards `code` is its exit code, and `lines` say why it could not be started.

        While another one runs, nothing is started: two visitors can press a button at the same time.

        Args:
            words: its arguments.
            apart: whether its standard output is returned, instead of being among `lines`.
        """
        if self.running:
            return ""
        self._starting, self.code, self.words = True, None, list(words)
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
        except OSError as error:
            self.lines.append(f"Error: {sys.executable} cannot be started: {error}")
            self.code = NOT_STARTED
            return ""
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
        """Terminate the command and wait for its end; one that takes too long is killed with what it has started."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        # Not to its whole group: `suggest` terminates its training itself, and a second signal would not let that
        # save its checkpoint. Not SIGINT, which a command that is still being imported does not handle.
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                if sys.platform == "win32":
                    process.kill()
                else:
                    os.killpg(process.pid, signal.SIGKILL)  # The leader of the session that it was started in.
            await process.wait()

    async def _read(self, stream: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await stream.readline()
            except ValueError:
                continue  # A line longer than LINE_BYTES, which is dropped.
            if not line:
                return
            text = line.decode("utf-8", "replace").rstrip()
            if text:
                self.lines.append(text)
