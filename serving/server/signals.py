"""Signals of a server's processes, from the start of each to its end.

SIGTERM and SIGINT end a process at once while it starts; then the first one stops it, and the next one ends it at once.
SIGHUP is ignored until there are models to check for new versions. SIGUSR1 and SIGUSR2 are always ignored.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, TypeAlias

Handler: TypeAlias = "Callable[[int, FrameType | None], object] | signal.Handlers"

STOP = (signal.SIGTERM, signal.SIGINT)
IGNORED = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def end_at_once(number: int, frame: FrameType | None = None) -> NoReturn:
    """End the process with the exit code of a signal, 128 + number.

    An exception could be raised anywhere, as in a destructor or an import, where it is ignored or becomes another one.
    """
    os._exit(128 + number)


@contextmanager
def handled(handler: Handler, *numbers: signal.Signals) -> Iterator[None]:
    """Handle signals in the block, which runs in the main thread; the former handlers are restored afterwards."""
    previous = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, former in previous.items():
            signal.signal(number, signal.SIG_DFL if former is None else former)


@contextmanager
def signals_while_starting() -> Iterator[None]:
    """Handle the signals of a server's process in the block, until `stop_on_signals` and handlers of its own."""
    with handled(signal.SIG_IGN, *IGNORED), handled(end_at_once, *STOP):
        yield


def stop_on_signals(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Set an event on SIGTERM or SIGINT. A second signal ends the process, even if its event loop is blocked."""

    def on_signal() -> None:
        for number in STOP:
            loop.remove_signal_handler(number)
            # The system ignores signals without a handler for the first process of a container.
            signal.signal(number, end_at_once if os.getpid() == 1 else signal.SIG_DFL)
        stop.set()

    for number in STOP:
        loop.add_signal_handler(number, on_signal)


@contextmanager
def blocked_for_children() -> Iterator[None]:
    """Let processes that are started in the block begin with SIGHUP and SIGINT blocked, until `unblock_signals`."""
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP, signal.SIGINT))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def unblock_signals() -> None:
    """Receive signals in a process that was started within `blocked_for_children`."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGHUP, signal.SIGINT))
