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


@contextmanager
def stop_on_signals(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> Iterator[None]:
    """Set an event on SIGTERM or SIGINT in the block. A second signal ends the process, even if its loop is blocked.

    Not by `loop.add_signal_handler`, which loses signals while others fill its pipe, and whose removal restores
    handlers that raise exceptions.
    """

    def on_signal(number: int, frame: FrameType | None) -> None:
        # The system ignores signals without a handler for the first process of a container.
        following: Handler = end_at_once if os.getpid() == 1 else signal.SIG_DFL
        for each in STOP:
            signal.signal(each, following)
        # A flood of handled signals would interrupt the short sleeps by which gRPC waits for its locks, without an end.
        for each in IGNORED:
            signal.signal(each, signal.SIG_IGN)
        loop.call_soon_threadsafe(stop.set)

    with handled(on_signal, *STOP):
        yield


@contextmanager
def called_on_hangup(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> Iterator[None]:
    """Call a function by the event loop after SIGHUP in the block: at least once after the last of several signals."""
    pending = False

    def call() -> None:
        nonlocal pending
        pending = False
        callback()

    def on_hangup(number: int, frame: FrameType | None) -> None:
        nonlocal pending
        if not pending:
            pending = True
            loop.call_soon_threadsafe(call)

    with handled(on_hangup, signal.SIGHUP):
        yield


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
