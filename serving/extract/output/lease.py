"""A lease that lets one process at a time write an output at a URL, where the system has no locks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from partedvae.common.folder_lock import Holder, busy
from partedvae.serving.errors import ServingError

RENEWED = 10.0
"""Seconds after which a lease is renewed."""
POLL = 1.0
"""Seconds after which the lease of another process is read again."""


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
    holder = Holder()
    _wait_for_others(url, read)
    write(holder.to_json())
    other = _holder(read)
    if other is not None and other.token != holder.token:  # Of two that write at the same time, the first finds it.
        raise ServingError(busy(other, url))
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(RENEWED):
            with suppress(OSError):  # Parts are idempotent: a lease that is lost costs work, and no rows.
                write(holder.to_json())

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
    seen: Holder | None = None
    while (other := _holder(read)) is not None and other.may_run():
        if seen is not None and other != seen:
            raise ServingError(busy(other, url))
        seen = other
        time.sleep(POLL)


def _holder(read: Callable[[], bytes | None]) -> Holder | None:
    content = read()
    return None if content is None else Holder.from_json(content)
