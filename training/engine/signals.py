"""Letting a signal end long work between two steps rather than in the middle of one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Whether someone asked to stop."""

    def __init__(self) -> None:
        """Begin without a request."""
        self.requested = False

    def request(self, signal_number: int, frame: FrameType | None) -> None:
        """Note the request; a second one ends at once, as if nobody had listened."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


@contextmanager
def noticing_interrupts() -> Iterator[Interrupts]:
    """Note SIGINT and SIGTERM instead of dying of them, within the block. Outside the main thread it notes nothing."""
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    before = {number: signal.signal(number, interrupts.request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
