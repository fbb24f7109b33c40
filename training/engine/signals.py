"""Graceful stop of long work: signals set a flag that is checked between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopFlag:
    """Whether SIGINT or SIGTERM has been received."""

    def __init__(self) -> None:
        self.is_set = False

    def handle(self, signal_number: int, frame: FrameType | None) -> None:
        """Handle a signal: the first one sets the flag, the second one stops at once.

        Raises:
            KeyboardInterrupt: the flag was set already.
        """
        if self.is_set:
            raise KeyboardInterrupt
        self.is_set = True


@contextmanager
def stop_on_signals() -> Iterator[StopFlag]:
    """Set a flag on SIGINT and SIGTERM within the block, instead of ending the process.

    Outside the main thread no handlers can be installed, and the flag is never set.
    """
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    previous = {number: signal.signal(number, flag.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
