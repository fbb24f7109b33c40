"""Supervises several worker processes on one port: starts them, restarts those that crash, and stops all of them.

It loads no model and creates no gRPC object. Workers are separate interpreters connected to it by a pipe each; when the
supervisor ends for any reason, the pipe closes and they stop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace

from partedvae.serving.config.addresses import hold_port
from partedvae.serving.config.logging import inherited_descriptors
from partedvae.serving.config.serve_config import ServeConfig
from partedvae.serving.errors import WorkerError

logger = logging.getLogger(__name__)

STARTED_LINE = "ready\n"
"""Line that a worker process writes to stdout when it accepts calls; any other line is the reason why it cannot."""
STABLE_SECONDS = 10.0
"""A worker process that ran this long resets the restart delay."""
MIN_RESTART_DELAY, MAX_RESTART_DELAY = 0.2, 30.0
"""Seconds before a crashed worker process is restarted; the delay doubles with each crash in a row."""
KILL_SECONDS = 10.0
"""Time after the grace period until worker processes that still run are killed."""


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
        on_worker_end: Callable[[int], None] | None = None
        if config.metrics_address is not None:
            from partedvae.serving.metrics.endpoint import forget_process, scrape_server, shared_folder, shared_registry

            folder = stack.enter_context(shared_folder())
            stack.enter_context(scrape_server(config.metrics_address, shared_registry(folder)))

            def on_worker_end(pid: int) -> None:
                forget_process(folder, pid)

        # All workers get the port in use and the same number of threads.
        worker_config = replace(config, address=address, threads=config.threads_each)
        asyncio.run(_Supervisor(worker_config, lambda: on_ready(address), on_worker_end).run())


class _Supervisor:
    def __init__(
        self, config: ServeConfig, on_ready: Callable[[], None], on_worker_end: Callable[[int], None] | None
    ) -> None:
        """Create a supervisor.

        Args:
            config: configuration of each worker.
            on_ready: called once, when all workers accept calls.
            on_worker_end: called with the process id of each worker that has ended.
        """
        self._config = config
        self._on_ready = on_ready
        self._on_worker_end = on_worker_end
        self._running: dict[int, Process] = {}
        self._started: set[int] = set()
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM, signal.SIGINT)
        for signum in signals:
            loop.add_signal_handler(signum, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._send, signal.SIGHUP)
        monitors = [asyncio.create_task(self._monitor(number)) for number in range(1, self._config.workers + 1)]
        stopped = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([stopped, *monitors], return_when=asyncio.FIRST_COMPLETED)
        for signum in signals:
            loop.remove_signal_handler(signum)
            signal.signal(signum, signal.SIG_DFL)  # The workers then find their pipe closed, and end.
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

    async def _monitor(self, number: int) -> None:
        """Start a worker process, and restart it when it ends, until the supervisor stops.

        Raises:
            WorkerError: it ended before all workers had started.
        """
        delay = MIN_RESTART_DELAY
        while not self._stopping.is_set():
            began = time.monotonic()
            process = await self._start(number)
            assert process.stdout is not None
            report = (await process.stdout.readline()).decode("utf-8", "replace")
            if report == STARTED_LINE:
                self._on_started(number)
            code = await process.wait()
            del self._running[number]
            if self._on_worker_end is not None:
                self._on_worker_end(process.pid)
            if self._stopping.is_set():
                return
            failed = report not in ("", STARTED_LINE)
            reason = report.strip() if failed else _describe_exit(code)
            if len(self._started) < self._config.workers:
                raise WorkerError(
                    reason if report else f"worker {number} {reason} before it accepted calls; see its log"
                )
            if time.monotonic() - began > STABLE_SECONDS:
                delay = MIN_RESTART_DELAY
            logger.error("worker %d: %s; restarting it in %.1f s", number, reason, delay)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay)
            delay = min(2 * delay, MAX_RESTART_DELAY)

    async def _start(self, number: int) -> Process:
        # The same module search path, without the current directory (-P), which may contain a "partedvae" of its own.
        paths = os.pathsep.join(path for path in sys.path if path)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "partedvae.serving.server.worker",
            stdin=PIPE,
            stdout=PIPE,
            pass_fds=inherited_descriptors(),
            env=os.environ | {"PYTHONPATH": paths},
            process_group=0,  # Ctrl-C in a terminal reaches only the supervisor.
        )  # fmt: skip
        self._running[number] = process
        assert process.stdin is not None
        process.stdin.write(pickle.dumps((self._config, number)))
        with suppress(ConnectionError):  # It crashed at start; its report has the reason.
            await process.stdin.drain()
        if self._stopping.is_set():
            process.terminate()
        return process

    def _on_started(self, number: int) -> None:
        if len(self._started) == self._config.workers:
            logger.info("worker %d accepts calls again", number)
            return
        self._started.add(number)
        if len(self._started) == self._config.workers:
            self._on_ready()

    def _send(self, signum: signal.Signals) -> None:
        for process in self._running.values():
            with suppress(ProcessLookupError):
                process.send_signal(signum)


def _describe_exit(code: int) -> str:
    """Describe the exit code of a process."""
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
