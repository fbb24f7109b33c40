"""Looks for new models periodically or on request, in a background thread."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Self

from partedvae.serving.repository.repository import ModelRepository

logger = logging.getLogger(__name__)

FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 1.0, 60.0
"""Time until what could not be read is read again; doubled each time, up to the second."""


class RepositoryWatcher:
    """Refreshes a repository while its `with` block runs. Models load in its thread, so that requests do not wait.

    Polls instead of using file notifications, because that works on network file systems and in containers too.
    """

    def __init__(self, repository: ModelRepository, seconds: float, requests: SimpleQueue[None] | None = None) -> None:
        """Create the watcher; it starts with the `with` block.

        Args:
            repository: the repository to refresh.
            seconds: time between refreshes; 0 refreshes only on request, and after something could not be read.
            requests: each item requests a refresh. Unlike locks, a SimpleQueue is safe in a signal handler (SIGHUP).
        """
        self._repository = repository
        self._seconds = seconds
        self._requests = SimpleQueue[None]() if requests is None else requests
        self._stopped = False
        # A daemon, so that a long load does not delay the end of the process.
        self._thread = threading.Thread(target=self._run, name="partedvae-watcher", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopped = True
        self._requests.put(None)

    def _run(self) -> None:
        delay = FIRST_RETRY_SECONDS
        while True:
            seconds = self._seconds or None
            if self._repository.may_recover():
                seconds = delay if seconds is None else min(delay, seconds)
                delay = min(2 * delay, LAST_RETRY_SECONDS)
            else:
                delay = FIRST_RETRY_SECONDS
            with suppress(Empty):
                self._requests.get(timeout=seconds)
                while True:  # One refresh is for all requests before it.
                    self._requests.get_nowait()
            if self._stopped:
                return
            try:
                self._repository.refresh()
            except Exception:  # A bug here must not end the thread: the next refresh may succeed.
                logger.exception("looking for new models failed")
