"""Reports the state of a worker process to its supervisor, from threads of its own.

The event loop only says that it runs: it must not wait for a supervisor that reads slowly, or not at all.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from prometheus_client.registry import Collector

from partedvae.serving.metrics.aggregation import families
from partedvae.serving.server.report import WorkerReport
from partedvae.serving.server.state import ServerState

logger = logging.getLogger(__name__)

MAX_SHARE = 0.02
"""Unless the supervisor asks, metrics are collected during at most this share of the time."""
LAST_SECONDS = 2.0
"""Longest delay of the end of a worker by its last report."""


class Reporter:
    """Sends a report on every beat of the event loop, whenever the supervisor asks for one, and at the end."""

    def __init__(self, connection: socket.socket, state: ServerState, on_supervisor_end: Callable[[], None]) -> None:
        """Start the threads.

        Args:
            connection: connected to the supervisor, which sends a byte to ask for a report.
            state: the state to report.
            on_supervisor_end: called from a thread when the supervisor has ended.
        """
        self.metrics: Collector | None = None
        """Metrics to report."""
        self.error = ""
        """Why the worker cannot start."""
        self._connection = connection
        self._state = state
        self._on_supervisor_end = on_supervisor_end
        self._sending = threading.Lock()
        self._beaten = threading.Event()
        self._ended = False
        self._collect_after = 0.0
        self._beats = threading.Thread(target=self._report_beats, name="partedvae-beats", daemon=True)
        self._beats.start()
        threading.Thread(target=self._answer, name="partedvae-reports", daemon=True).start()

    def beat(self) -> None:
        """Report soon, without waiting for it."""
        self._beaten.set()

    def close(self) -> None:
        """Report for the last time."""
        self._ended = True
        self._collect_after = 0.0
        self._beaten.set()
        self._beats.join(LAST_SECONDS)

    def _report_beats(self) -> None:
        while not self._ended:
            self._beaten.wait()
            self._beaten.clear()
            self._report(with_metrics=time.monotonic() >= self._collect_after)

    def _answer(self) -> None:
        """Answer the supervisor until it is gone: however it ends, the connection is closed."""
        with suppress(OSError):
            while self._connection.recv(1):
                self._report(with_metrics=True)
        self._on_supervisor_end()

    def _report(self, *, with_metrics: bool) -> None:
        collected = None
        if with_metrics and self.metrics is not None:
            began = time.thread_time()
            try:
                collected = families(self.metrics)
            except Exception:  # A bug here must not look like an event loop that does not run.
                logger.exception("collecting metrics failed; this worker reports no more of them")
                self.metrics = None
            self._collect_after = time.monotonic() + (time.thread_time() - began) / MAX_SHARE
        state = self._state
        report = WorkerReport(
            accepts_calls=state.accepts_calls,
            ready=state.is_ready(),
            beats=state.beats,
            error=self.error,
            metrics=collected,
        )
        with self._sending, suppress(OSError):  # The supervisor is gone; `_answer` sees it too.
            self._connection.sendall(report.to_line())
