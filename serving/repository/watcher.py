"""Looks for new models now and then, or when told to, in a thread of its own."""

from __future__ import annotations

import logging
import threading
from typing import Self

from partedvae.serving.repository.repository import ModelRepository

logger = logging.getLogger(__name__)


class RepositoryWatcher:
    """Refreshes a repository in a `with` block. Loading happens in its thread, so nobody who is served waits for it.

    Polls rather than asking the system to tell: that works on network file systems and in containers too.
    """

    def __init__(self, repository: ModelRepository, seconds: float) -> None:
        """Take what to refresh and how often; 0 seconds means only at `check_now`."""
        self._repository = repository
        self._seconds = seconds
        self._wake = threading.Event()
        self._stopped = False
        # A daemon: a load that takes long must not hold up the end of the process.
        self._thread = threading.Thread(target=self._run, name="partedvae-watcher", daemon=True)

    def check_now(self) -> None:
        """Look now, in the watcher's thread; returns at once. Made for a signal handler (SIGHUP)."""
        self._wake.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopped = True
        self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait(self._seconds or None)
            self._wake.clear()
            if self._stopped:
                return
            try:
                self._repository.refresh()
            except Exception:  # A defect here must not end the watching: the next version may be the remedy.
                logger.exception("looking for new models failed")
