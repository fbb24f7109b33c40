"""Supervises several worker processes on one port: starts them, restarts those that fail, and stops all of them.

It loads no model and creates no gRPC object. Workers are separate interpreters connected to it by a socket each; when
the supervisor ends for any reason, the socket closes and they stop.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakSet

from partedvae.serving.config.addresses import hold_port
from partedvae.serving.config.serve_config import MIB, ServeConfig
from partedvae.serving.errors import WorkerError
from partedvae.serving.server.signals import called_on_hangup, stop_on_signals
from partedvae.serving.server.worker_process import WorkerProcess

if TYPE_CHECKING:
    from partedvae.serving.metrics.aggregation import WorkerMetrics

logger = logging.getLogger(__name__)

STABLE_SECONDS = 10.0
"""A worker process that ran this long resets the restart delay."""
MIN_RESTART_DELAY, MAX_RESTART_DELAY = 0.2, 30.0
"""Seconds before a worker process that failed is restarted; the delay doubles with each failure in a row."""
KILL_SECONDS = 10.0
"""Time after the grace period until worker processes that still run are killed."""
REFRESH_SECONDS = 1.0
"""Time within which workers report their metrics for a scrape; it then shows what they reported last."""


def supervise(config: ServeConfig, on_ready: Callable[[str], None]) -> None:
    """Serve with `config.workers` processes until SIGTERM or SIGINT. A second signal ends all of them immediately.

    Args:
        config: configuration of all workers.
        on_ready: called once, with the bound address, when all workers accept calls.

    Raises:
        AddressError: the address is malformed, in use, or not an address of this machine.
        WorkerError: a worker ended before all of them had started, or had to be killed at the end.
    """
    with ExitStack() as stack:
        address = stack.enter_context(hold_port(config.address))
        listener = None
        if config.metrics_address is not None:
            from partedvae.serving.metrics.endpoint import listening

            listener = stack.enter_context(listening(config.metrics_address))
        # All workers get the port in use, and the same threads and memory, from which the limits of images follow.
        memory_mb = config.memory_bytes // MIB
        worker_config = replace(config, address=address, threads=config.threads_each, memory_mb=memory_mb)
        asyncio.run(_Supervisor(worker_config, lambda: on_ready(address), listener).run())


class _Supervisor:
    def __init__(self, config: ServeConfig, on_ready: Callable[[], None], listener: socket.socket | None) -> None:
        """Create a supervisor.

        Args:
            config: configuration of each worker.
            on_ready: called once, when all workers accept calls.
            listener: listening socket of the metrics; None if there are none.
        """
        self._config = config
        self._on_ready = on_ready
        self._listener = listener
        self._metrics: WorkerMetrics | None = None
        self._running: dict[int, WorkerProcess] = {}
        self._serving: WeakSet[WorkerProcess] = WeakSet()
        """Worker processes that have reported that they accept calls."""
        self._started: set[int] = set()
        """Numbers of the workers that have accepted calls."""
        self._starting = asyncio.Lock()
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            stack.enter_context(stop_on_signals(loop, self._stopping))
            # Workers that start can get it at any time, and load what is there afterwards.
            stack.enter_context(called_on_hangup(loop, lambda: self._send(signal.SIGHUP)))
            if self._listener is not None:
                await self._serve_metrics(stack, self._listener)
            monitors = [asyncio.create_task(self._monitor(number)) for number in range(1, self._config.workers + 1)]
            stopped = asyncio.create_task(self._stopping.wait())
            await asyncio.wait([stopped, *monitors], return_when=asyncio.FIRST_COMPLETED)
            self._stopping.set()
            self._send(signal.SIGTERM)
            _, late = await asyncio.wait(monitors, timeout=self._config.grace_seconds + KILL_SECONDS)
            self._send(signal.SIGKILL)
            await asyncio.wait(monitors)
        for monitor in monitors:
            monitor.result()
        if late:
            seconds = self._config.grace_seconds + KILL_SECONDS
            raise WorkerError(
                f"{len(late)} of {len(monitors)} workers did not stop within {seconds:g} s and were killed"
            )

    async def _serve_metrics(self, stack: AsyncExitStack, listener: socket.socket) -> None:
        from partedvae.serving.metrics.aggregation import WorkerMetrics
        from partedvae.serving.metrics.endpoint import Exposition, routes
        from partedvae.serving.metrics.http_server import HttpServer

        self._metrics = WorkerMetrics()

        async def refresh() -> None:
            await asyncio.gather(*(worker.refresh(REFRESH_SECONDS) for worker in self._running.values()))

        def is_ready() -> bool:
            return not self._stopping.is_set() and any(worker.is_ready for worker in self._running.values())

        server = HttpServer(routes(Exposition(self._metrics, refresh), lambda: True, is_ready))
        await stack.enter_async_context(server.serving(listener))

    async def _monitor(self, number: int) -> None:
        """Start a worker process, and restart it when it ends, until the supervisor stops.

        Raises:
            WorkerError: it ended before all workers had started.
        """
        delay = MIN_RESTART_DELAY
        while not self._stopping.is_set():
            began = time.monotonic()
            reason = await self._run(number)
            if self._stopping.is_set():
                return
            if len(self._started) < self._config.workers:
                raise WorkerError(reason)
            if time.monotonic() - began > STABLE_SECONDS:
                delay = MIN_RESTART_DELAY
            logger.error("worker %d: %s; restarting it in %.1f s", number, reason, delay)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay)
            delay = min(2 * delay, MAX_RESTART_DELAY)

    async def _run(self, number: int) -> str:
        """Run a worker process, and return why it has ended."""
        try:
            async with self._starting:  # The mask of blocked signals is the process's, so one after the other.
                worker = await WorkerProcess.start(self._config, number)
        except OSError as error:
            return f"cannot start a process: {error.strerror or error}"
        self._running[number] = worker
        if self._stopping.is_set():
            worker.send_signal(signal.SIGTERM)
        code = await worker.wait(self._config.worker_timeout_seconds, self._on_report)
        del self._running[number]
        if self._metrics is not None:
            self._metrics.end(worker)
        if worker.report.error:
            return worker.report.error
        reason = worker.fault or _describe_exit(code)
        if len(self._started) < self._config.workers:
            return f"worker {number} {reason} before all workers accepted calls; see its log"
        return reason

    def _on_report(self, worker: WorkerProcess) -> None:
        report = worker.report
        if self._metrics is not None and report.metrics is not None:
            self._metrics.update(worker, report.metrics)
        if not report.accepts_calls or worker in self._serving:
            return
        self._serving.add(worker)
        if len(self._started) == self._config.workers:
            logger.info("worker %d accepts calls again", worker.number)
            return
        self._started.add(worker.number)
        if len(self._started) == self._config.workers:
            self._on_ready()

    def _send(self, number: signal.Signals) -> None:
        for worker in self._running.values():
            worker.send_signal(number)


def _describe_exit(code: int) -> str:
    """Describe the exit code of a process."""
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
