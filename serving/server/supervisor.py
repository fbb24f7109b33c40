"""The supervisor of several processes that serve on one port: starts them, starts those again that die, ends them all.

It loads no model and makes no gRPC object. The workers are fresh interpreters, which share nothing with it but a pipe
each; when the supervisor is gone, however it ended, they notice by that pipe and end as well.
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
from partedvae.serving.config.config import ServeConfig
from partedvae.serving.errors import WorkerError

logger = logging.getLogger(__name__)

READY = "ready"
"""What a worker reports on stdout when it answers; anything else is the reason why it cannot."""
STEADY_SECONDS = 10.0
"""A worker that lived this long did not die at once."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0
"""Seconds before a worker that died at once is started again; each time twice as long."""
LAST_RESORT_SECONDS = 10.0
"""After the grace, how long workers may take to end before they are killed."""


def supervise(config: ServeConfig, on_ready: Callable[[str], None]) -> None:
    """Serve with `config.workers` processes until SIGTERM or SIGINT. A second signal ends all of them at once.

    Args:
        config: all of it.
        on_ready: called once with the real address when all workers answer.

    Raises:
        AddressError: the address is malformed, taken, or not this machine's.
        WorkerError: a worker ended before all of them had answered once, or had to be killed at the end.
    """
    with ExitStack() as stack:
        address = stack.enter_context(hold_port(config.address))
        forget: Callable[[int], None] | None = None
        if config.metrics_address is not None:
            from partedvae.serving.metrics.endpoint import forget_process, scrape_server, shared_folder, shared_registry

            folder = stack.enter_context(shared_folder())
            stack.enter_context(scrape_server(config.metrics_address, shared_registry(folder)))

            def forget(pid: int) -> None:
                forget_process(folder, pid)

        # The address with its real port and the threads are told to the workers, so that all have the same.
        told = replace(config, address=address, threads=config.threads_each)
        asyncio.run(_Supervisor(told, lambda: on_ready(address), forget).run())


class _Supervisor:
    def __init__(self, config: ServeConfig, on_ready: Callable[[], None], forget: Callable[[int], None] | None) -> None:
        self._config = config
        self._on_ready = on_ready
        self._forget = forget
        self._running: dict[int, Process] = {}
        self._answered: set[int] = set()
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM, signal.SIGINT)
        for signum in signals:
            loop.add_signal_handler(signum, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._send, signal.SIGHUP)
        keepers = [asyncio.create_task(self._keep(number)) for number in range(1, self._config.workers + 1)]
        stopped = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([stopped, *keepers], return_when=asyncio.FIRST_COMPLETED)
        for signum in signals:
            loop.remove_signal_handler(signum)
            signal.signal(signum, signal.SIG_DFL)  # The workers then find their pipe closed, and end at once.
        self._stopping.set()
        self._send(signal.SIGTERM)
        _, late = await asyncio.wait(keepers, timeout=self._config.grace_seconds + LAST_RESORT_SECONDS)
        self._send(signal.SIGKILL)
        await asyncio.wait(keepers)
        for keeper in keepers:
            keeper.result()
        if late:
            raise WorkerError(f"{len(late)} of {len(keepers)} workers did not end by themselves and were killed")

    async def _keep(self, number: int) -> None:
        """Start a worker, and again when it ends, until all are to end.

        Raises:
            WorkerError: it ended before all workers had answered once.
        """
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            began = time.monotonic()
            process = await self._start(number)
            assert process.stdout is not None
            report = (await process.stdout.readline()).decode("utf-8", "replace")
            if report == f"{READY}\n":
                self._is_ready(number)
            code = await process.wait()
            del self._running[number]
            if self._forget is not None:
                self._forget(process.pid)
            if self._stopping.is_set():
                return
            answered = report == f"{READY}\n"
            reason = report.strip() if report and not answered else _how(code)
            if len(self._answered) < self._config.workers:
                raise WorkerError(
                    reason if report else f"worker {number} {reason} before it answered; its log tells why"
                )
            if time.monotonic() - began > STEADY_SECONDS:
                pause = FIRST_PAUSE
            logger.error("worker %d: %s; starting it again in %.1f s", number, reason, pause)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _start(self, number: int) -> Process:
        # The same places for modules, but never the current folder for its own sake (-P): it may have a "serving" too.
        paths = os.pathsep.join(path for path in sys.path if path)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "partedvae.serving.server.worker",
            stdin=PIPE,
            stdout=PIPE,
            env=os.environ | {"PYTHONPATH": paths},
            process_group=0,  # Ctrl-C in a terminal comes to the supervisor alone.
        )  # fmt: skip
        self._running[number] = process
        assert process.stdin is not None
        process.stdin.write(pickle.dumps((self._config, number)))
        with suppress(ConnectionError):  # It died at once: what it reported tells more.
            await process.stdin.drain()
        if self._stopping.is_set():
            process.terminate()
        return process

    def _is_ready(self, number: int) -> None:
        if len(self._answered) == self._config.workers:
            logger.info("worker %d answers again", number)
            return
        self._answered.add(number)
        if len(self._answered) == self._config.workers:
            self._on_ready()

    def _send(self, signum: signal.Signals) -> None:
        for process in self._running.values():
            with suppress(ProcessLookupError):
                process.send_signal(signum)


def _how(code: int) -> str:
    """Tell how a process ended."""
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
