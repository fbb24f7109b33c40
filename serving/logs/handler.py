"""Writes log records to stderr: one write per record, at a limited rate."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TextIO

from partedvae.serving.logs.rate_limit import RateLimitFilter

SUMMARY_SECONDS = 60.0
"""Minimum time between two summaries of suppressed records."""


class LimitedHandler(logging.StreamHandler[TextIO]):
    """A handler of a stream that drops floods of similar records, and writes how many it has dropped."""

    def __init__(
        self, stream: TextIO, formatter: logging.Formatter, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Create a handler.

        Args:
            stream: where to write.
            formatter: format of the records.
            clock: returns seconds; another one in tests.
        """
        super().__init__(stream)
        self.setFormatter(formatter)
        self._clock = clock
        self._limit = RateLimitFilter(clock)
        self._summarised_at = clock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write a record. The limit counts only those that the other filters accept."""
        return bool(super().filter(record)) and self._limit.filter(record)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        if self._clock() - self._summarised_at >= SUMMARY_SECONDS:
            self.summarise()
        super().emit(record)

    def summarise(self) -> None:
        """Write how many records were suppressed and not counted by a later one."""
        self._summarised_at = self._clock()
        for summary in self._limit.summaries():
            super().emit(summary)

    def close(self) -> None:
        """Write the last summary."""
        self.summarise()
        super().close()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (of logging.Handler)
        """Drop a record that cannot be written, because its reader has gone or the disk is full."""
