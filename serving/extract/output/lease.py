"""A lease that lets one process at a time write an output at a URL, where the system has no locks."""

from __future__ import annotations

import dataclasses
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from partedvae.common.folder_lock import Holder, busy
from partedvae.serving.errors import ServingError

RENEWED = 10.0
"""Seconds after which a lease is renewed."""
EXPIRED = 60.0
"""Seconds without renewal after which a lease is that of a process which was killed."""
POLL = 1.0
"""Seconds after which the lease of another process is read again."""
REMEDY = "wait until it has ended, or choose another --output"
"""What to do where another process writes an output."""


@dataclass(frozen=True, kw_only=True)
class Lease(Holder):
    """Who writes an output at a URL, and when that was last said."""

    renewed: float = field(default_factory=time.time)
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    def renew(self) -> Lease:
        """Return the lease as of now."""
        return dataclasses.replace(self, renewed=time.time())

    def may_run(self) -> bool:
        """Return whether the process may still run; on this machine, another one may have its number by now."""
        if self.host == socket.gethostname():
            try:
                os.kill(self.pid, 0)
            except ProcessLookupError:
                return False
            except OSError:  # It belongs to another user.
                pass
        return time.time() - self.renewed < EXPIRED


@contextmanager
def lease(
    url: str, read: Callable[[], bytes | None], write: Callable[[bytes], None], delete: Callable[[], None]
) -> Iterator[None]:
    """Hold a lease for the duration of the block, renewed by a thread.

    Args:
        url: of the output.
        read: returns the content of the lock, None if there is none.
        write: replaces it.
        delete: deletes it.

    Raises:
        ServingError: another process holds it.
        OSError: the lock cannot be read or written.
    """
    own = Lease()
    _wait_for_others(url, read)
    write(own.to_json())
    other = _read(read)
    if other is not None and other.token != own.token:  # Of two that write at the same time, the first finds it.
        raise _busy(other, url)
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(RENEWED):
            with suppress(OSError):  # Parts are idempotent: a lease that is lost costs work, and no rows.
                write(own.renew().to_json())

    thread = threading.Thread(target=renew, name="partedvae-lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(OSError):
            delete()


def _wait_for_others(url: str, read: Callable[[], bytes | None]) -> None:
    """Return when no other process holds a lease; one that was killed is waited for until its lease has expired.

    Raises:
        ServingError: another process holds it: it was renewed meanwhile.
    """
    seen: Lease | None = None
    while (other := _read(read)) is not None and other.may_run():
        if seen is not None and other != seen:
            raise _busy(other, url)
        seen = other
        time.sleep(POLL)


def _read(read: Callable[[], bytes | None]) -> Lease | None:
    content = read()
    return None if content is None else Lease.from_json(content)


def _busy(other: Lease, url: str) -> ServingError:
    return ServingError(f"{busy(other, url)}; {REMEDY}")
