"""Termination of commands: SIGTERM and SIGHUP end them as Ctrl-C does, so that unfinished files are deleted."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""SIGHUP, of a terminal that closes, does not exist on Windows."""


@contextmanager
def exit_on_termination() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise SystemExit(128 + number) in the block; a second signal ends the process at once.

    Python's default ends the process without `finally` blocks. Signals that are ignored, as by nohup, still are.
    Commands that have handlers of their own, such as servers, replace these.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.getsignal(number) for number in SIGNALS}
    handled = [number for number, handler in previous.items() if handler is signal.SIG_DFL]
    for number in handled:
        signal.signal(number, _exit)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, previous[number])


def _exit(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    sys.exit(128 + number)
