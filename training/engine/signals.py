"""Graceful stop of long work: signals set a flag that is checked between two steps, or interrupt work without steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopFlag:
    """Whether SIGINT, SIGTERM or SIGHUP has been received."""

    def __init__(self) -> None:
        self.is_set = False
        self._at_once = False

    def handle(self, signal_number: int, frame: FrameType | None) -> None:
        """Handle a signal: the first one sets the flag, the second one stops at once.

        Raises:
            KeyboardInterrupt: the flag was set already, or this is a block of `at_once`.
        """
        if self.is_set or self._at_once:
            raise KeyboardInterrupt
        self.is_set = True

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let the first signal interrupt the block, which takes long and changes nothing.

        Raises:
            KeyboardInterrupt: a signal has been received, before the block or in it.
        """
        self._at_once = True
        try:
            if self.is_set:
                raise KeyboardInterrupt
            yield
        finally:
            self._at_once = False


@contextmanager
def stop_on_signals() -> Iterator[StopFlag]:
    """Set a flag on SIGINT, SIGTERM and SIGHUP within the block, instead of ending the process.

    SIGHUP is still ignored where it was, as by nohup. Outside the main thread no handlers can be installed, and the
    flag is never set.
    """
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # Windows has none.
        numbers.append(signal.SIGHUP)
    previous = {number: signal.signal(number, flag.handle) for number in numbers}
    try:
        yield flag
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
