"""The process that turns what a server and its libraries write to file descriptor 2 into log records.

    python -m partedvae.serving.logs.stderr_reader text|json

It reads lines from stdin until all writers are gone, and writes records to its own stderr, which is the server's
original one. It is a process of its own, so that the last lines of a server that crashes are not lost.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Iterator
from typing import cast

from partedvae.serving.logs.capture import record_stream
from partedvae.serving.logs.formatters import LogFormat, formatter
from partedvae.serving.logs.handler import SUMMARY_SECONDS, LimitedHandler
from partedvae.serving.logs.stderr_lines import record_of

MAX_LINE = 16_384
"""Bytes of a line that are kept."""
IDLE_SECONDS = 1.0
"""Time after which a line without its end is written as it is."""


class LineReader:
    """Splits a stream of bytes into lines of limited length."""

    def __init__(self) -> None:
        """Create a reader without input."""
        self._line = bytearray()

    def feed(self, data: bytes) -> Iterator[str]:
        """Yield the lines that `data` completes."""
        *ends, rest = data.split(b"\n")
        for end in ends:
            self._append(end)
            yield from self.flush()
        self._append(rest)

    def flush(self) -> Iterator[str]:
        """Yield the line that has begun, if there is one."""
        if self._line:
            line = bytes(self._line).decode("utf-8", "backslashreplace")
            self._line.clear()
            yield line

    def _append(self, data: bytes) -> None:
        self._line += data[: MAX_LINE - len(self._line)]


def main() -> None:
    """Read until the end of stdin."""
    # The server handles the signals of its process group and of its service manager; this process ends after it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    handler = LimitedHandler(record_stream(sys.stderr.fileno()), formatter(cast("LogFormat", sys.argv[1]), None))
    lines = LineReader()
    descriptor = sys.stdin.fileno()

    def write(texts: Iterator[str]) -> None:
        for text in texts:
            record = record_of(text)
            if record is not None:
                handler.handle(record)

    idle = 0.0
    while True:
        if not select.select([descriptor], [], [], IDLE_SECONDS)[0]:
            write(lines.flush())
            idle += IDLE_SECONDS
            if idle >= SUMMARY_SECONDS:  # The flood is over, and no record may follow.
                handler.summarise()
                idle = 0.0
            continue
        data = os.read(descriptor, 65_536)
        if not data:
            break
        write(lines.feed(data))
    write(lines.flush())
    handler.close()


if __name__ == "__main__":
    main()
