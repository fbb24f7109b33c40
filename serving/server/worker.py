"""A worker process: the only one of a server, or one of several started by `partedvae.serving.server.supervisor`.

A supervised worker gets the descriptor of a socket as its argument. It reads its configuration from it, and reports its
state to it (`partedvae.serving.server.reporter`).
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from queue import SimpleQueue
from typing import TYPE_CHECKING

from partedvae.serving.config.logging import server_logging
from partedvae.serving.config.serve_config import ServeConfig
from partedvae.serving.errors import ServingError
from partedvae.serving.grpc.server import serve_until_stopped
from partedvae.serving.repository.repository import ModelRepository
from partedvae.serving.repository.watcher import RepositoryWatcher
from partedvae.serving.server.signals import handled, signals_while_starting, stop_on_signals, unblock_signals
from partedvae.serving.server.state import ServerState

if TYPE_CHECKING:
    from partedvae.serving.metrics.metrics import Metrics
    from partedvae.serving.server.reporter import Reporter

EXIT_SECONDS = 5.0
"""Time after the grace period until a worker whose supervisor is gone exits unconditionally."""


def run(
    config: ServeConfig,
    on_ready: Callable[[str], None],
    *,
    state: ServerState | None = None,
    reporter: Reporter | None = None,
) -> None:
    """Load the models and serve them until SIGTERM or SIGINT.

    Args:
        config: configuration of the server.
        on_ready: called once, with the bound address, when the server accepts calls.
        state: kept up to date.
        reporter: of a worker that shares its port with others. The supervisor then serves the metrics.

    Raises:
        ServingError: the server cannot start.
    """
    state = state or ServerState()
    checks: SimpleQueue[None] = SimpleQueue()
    with ExitStack() as stack:
        # From here on, models are looked for once more after each SIGHUP, also one that comes while they are loaded.
        stack.enter_context(handled(lambda number, frame: checks.put(None), signal.SIGHUP))
        metrics = None
        if config.metrics_address is not None:
            from partedvae.serving.metrics.endpoint import own_registry, scrape_server
            from partedvae.serving.metrics.metrics import Metrics

            registry = own_registry()
            metrics = Metrics(registry)
            if reporter is None:
                seconds = config.worker_timeout_seconds
                stack.enter_context(
                    scrape_server(
                        config.metrics_address,
                        registry,
                        is_alive=lambda: state.is_alive(seconds),
                        is_ready=state.is_ready,
                    )
                )
            else:
                reporter.metrics = registry
        repository = ModelRepository(config.models_dir, config.device, 1, metrics, config.precision)
        stack.enter_context(RepositoryWatcher(repository, config.poll_seconds, checks))
        asyncio.run(_serve(config, repository, on_ready, state, reporter, metrics))


async def _serve(
    config: ServeConfig,
    repository: ModelRepository,
    on_ready: Callable[[str], None],
    state: ServerState,
    reporter: Reporter | None,
    metrics: Metrics | None,
) -> None:
    stop = asyncio.Event()

    def on_started(address: str) -> None:
        state.accepts_calls = True
        if reporter is not None:
            reporter.beat()
        on_ready(address)

    async with AsyncExitStack() as stack:
        stack.enter_context(stop_on_signals(asyncio.get_running_loop(), stop))
        await stack.enter_async_context(
            state.beating(repository.can_answer, stop, reporter.beat if reporter is not None else lambda: None)
        )
        if metrics is not None:
            from partedvae.serving.metrics.lag import lag_measured

            await stack.enter_async_context(lag_measured(metrics.lag))
        await serve_until_stopped(
            config, repository, on_started, stop, shared_port=reporter is not None, metrics=metrics
        )


def main() -> None:
    """Run a supervised worker."""
    from partedvae.serving.server.reporter import Reporter

    with signals_while_starting():
        unblock_signals()
        connection = socket.socket(fileno=int(sys.argv[1]))
        connection.set_inheritable(False)
        config: ServeConfig
        number: int  # from 1, for the log
        try:
            with connection.makefile("rb") as file:
                config, number = pickle.load(file)
        except (EOFError, OSError):  # The supervisor has ended.
            sys.exit(1)
        state = ServerState()
        with server_logging(config, number):
            reporter = Reporter(connection, state, lambda: _end(config.grace_seconds))
            try:
                run(config, lambda address: None, state=state, reporter=reporter)
            except ServingError as error:
                reporter.error = " ".join(str(error).split())
                sys.exit(1)
            finally:
                reporter.close()


def _end(grace_seconds: float) -> None:
    """Stop as on SIGTERM, or immediately if the worker is already stopping."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace_seconds + EXIT_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
