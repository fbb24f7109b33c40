"""Lets clients work in a process that was forked from one in which they were used, as multiprocessing does on Linux.

gRPC stops its threads before a fork and starts them again in the parent; the channels of the parent are closed in the
child, where clients open their own (`Transport`, `AsyncTransport`). This has two conditions: `ENABLE` is set before
gRPC is imported, and no thread is inside gRPC at the moment of the fork. `partedvae/__init__.py` sees to the first,
`gate` to the second: a fork waits for the calls of other threads. It does so before gRPC stops the threads that wait
for responses. One that was stopped goes on after the fork without looking for the next one, which may come at once, and
while that thread holds a lock, for which the child would wait for ever.

Where the conditions do not hold, as with a connected `AsyncClient`, whose thread of gRPC never leaves it, calls in the
child would wait for ever, so that `check` refuses them. gRPC ends the child itself if both kinds of channels exist.
After the last channel of a process was closed, gRPC shuts down in a thread of its own, and a fork waits for that too.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol
from weakref import WeakSet

from partedvae.errors import UnavailableError

ENABLE = "GRPC_ENABLE_FORK_SUPPORT"
"""Environment variable that gRPC reads when it is imported."""
WAIT_SECONDS = 5.0
"""Longest delay of a fork by calls of other threads, as in gRPC."""
RESUME_SECONDS = 0.1
"""Shortest time between two forks of which the first did not wait for all calls: gRPC's threads run again."""
SHUTDOWN_SECONDS = 0.5
"""Longest delay of the first fork after a channel was closed; gRPC needs some milliseconds, unless others are open."""
THREADS = Path("/proc/self/task")
"""The threads of this process, where the system lists them: on Linux."""
GRPC_THREADS = frozenset({"event_engine", "grpc_global_tim", "grpc_shutdown", "lifeguard"})
"""Names of gRPC's threads, which are there until it has shut down."""
REMEDY = "fork before the first call, or start processes with multiprocessing.get_context('forkserver') or 'spawn'"


class Forkable(Protocol):
    """A connection that has to know of forks."""

    def before_fork(self) -> bool:
        """Give up what is not needed; return whether gRPC remains in use."""


class ForkGate:
    """A context manager for calls into gRPC that block: a fork waits until none is active, new calls wait for the fork.

    Must not be entered by a thread that may fork inside it.
    """

    def __init__(self) -> None:
        """Create an open gate; `install` registers it."""
        self.reason: str | None = None
        """Why gRPC does not work in this process since a fork; None where it does."""
        self._supported = True
        self._precedes_grpc = False
        self._resumed = 0.0
        """The time from which gRPC's threads have run again after a fork that did not wait for them."""
        self._connected = False
        self._connections: WeakSet[Forkable] = WeakSet()
        self._reset()

    def install(self, *, supported: bool) -> None:
        """Register what has to happen at each fork of this process.

        Args:
            supported: whether gRPC handles forks.
        """
        self._supported = supported
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._before, after_in_parent=self._release, after_in_child=self._after_in_child)

    def precede_grpc(self) -> None:
        """Let forks wait for calls before gRPC stops its threads, which calls need to end; for synchronous channels.

        Must be called after a channel was created: of the functions to be called before a fork, the last one that was
        registered is called first, and gRPC registers its own with its first channel.
        """
        with self._changed:
            if self._precedes_grpc or not hasattr(os, "register_at_fork"):
                return
            self._precedes_grpc = True
            os.register_at_fork(before=self._stop_calls)

    def watch(self, connection: Forkable) -> None:
        """Ask a connection before each fork whether it uses gRPC, as long as it exists."""
        self._connections.add(connection)

    def closed(self) -> None:
        """Record that a channel was closed, perhaps the last one."""
        self._closing = True

    @contextmanager
    def unfinished(self, kind: Literal["calls", "stream"]) -> Iterator[None]:
        """Record calls or a stream that no fork waits for, as they may remain while no thread waits for a response."""
        process = os.getpid()
        with self:
            self._unfinished[kind] += 1
        try:
            yield
        finally:
            if process == os.getpid():
                with self._changed:
                    self._unfinished[kind] -= 1

    def __enter__(self) -> None:
        with self._changed:
            while self._forking:
                self._changed.wait()
            self._active += 1
            self.used = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._changed:
            self._active -= 1
            self._changed.notify_all()

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._active = 0
        self._unfinished = Counter[str]()
        self._closing = False
        self._forking = False
        self._forking_thread: int | None = None
        """Holds the lock from before a fork until after it."""
        self.used = False
        """Whether this process called gRPC through the gate."""

    def _stop_calls(self) -> None:
        """Wait until no call is active, and let none begin until after the fork."""
        if self._forking_thread == threading.get_ident():
            return
        self._changed.acquire()
        try:
            time.sleep(max(self._resumed - time.monotonic(), 0))
            end = time.monotonic() + WAIT_SECONDS
            waits = True
            while waits:
                self._forking = True  # After each wait, in which another thread may have forked.
                waits = bool(self._active) and self._changed.wait(end - time.monotonic())
        finally:
            self._forking_thread = threading.get_ident()

    def _before(self) -> None:
        """Stop calls, and find out what remains in use."""
        self._stop_calls()
        in_use = [connection.before_fork() for connection in list(self._connections)]
        self._connected = any(in_use)
        if self._closing and not self._connected:
            _wait_for_shutdown()
            self._closing = False
        if self._connected and self.used:
            # gRPC's own handler, which a synchronous channel registers, exits: before any code of the child runs.
            warnings.warn(
                "a fork while an AsyncClient is connected, after calls of a Client: gRPC ends the child with exit code "
                f"{os.EX_USAGE}; {REMEDY}",
                RuntimeWarning,
                stacklevel=2,
            )

    def _release(self) -> None:
        if self._active or self._unfinished.total():
            self._resumed = time.monotonic() + RESUME_SECONDS
        self._forking = False
        self._changed.notify_all()
        self._forking_thread = None
        self._changed.release()

    def _after_in_child(self) -> None:
        if self._active:
            self.reason = "while another thread waited for a response"
        elif self._unfinished["stream"]:
            self.reason = "while a stream was open"
        elif self._connected:
            self.reason = "while an AsyncClient was connected"
        elif self.used and not self._supported:
            self.reason = f"after gRPC was imported without {ENABLE}=1"
        self._reset()


def _wait_for_shutdown() -> None:
    end = time.monotonic() + SHUTDOWN_SECONDS
    while time.monotonic() < end and not GRPC_THREADS.isdisjoint(_thread_names()):
        time.sleep(0.001)


def _thread_names() -> Iterator[str]:
    for name in THREADS.glob("*/comm"):
        with suppress(OSError):  # The thread has ended.
            yield name.read_text().strip()


gate = ForkGate()


def check(address: str) -> None:
    """Check that gRPC works in this process.

    Args:
        address: the server's, for the message.

    Raises:
        UnavailableError: this process was forked at a moment after which gRPC hangs.
    """
    if gate.reason is not None:
        raise UnavailableError(f"no call to {address} is possible: this process was forked {gate.reason}; {REMEDY}")


def works() -> bool:
    """Return whether gRPC works in this process."""
    return gate.reason is None


def enable() -> None:
    """Make gRPC handle forks; without effect where the variable is set already, or gRPC was imported before."""
    if "grpc" not in sys.modules:
        os.environ.setdefault(ENABLE, "1")
    gate.install(supported=os.environ.get(ENABLE, "").lower() in ("1", "true", "yes", "y", "on"))
