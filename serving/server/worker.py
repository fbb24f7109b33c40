"""A worker process: the only one of a server, or one of several started by `partedvae.serving.server.supervisor`.

A supervised worker reads its configuration from stdin, which stays open as long as the supervisor runs, and writes one
line to stdout when it accepts calls or cannot start.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

from partedvae.serving.config.logging import server_logging
from partedvae.serving.config.serve_config import ServeConfig
from partedvae.serving.errors import ServingError
from partedvae.serving.grpc.server import serve_until_stopped
from partedvae.serving.repository.repository import ModelRepository
from partedvae.serving.repository.watcher import RepositoryWatcher
from partedvae.serving.server.supervisor import STARTED_LINE

EXIT_SECONDS = 5.0
"""Time after the grace period until a worker whose supervisor is gone exits unconditionally."""


def run(config: ServeConfig, on_ready: Callable[[str], None], *, shared_port: bool = False) -> None:
    """Load the models and serve them until SIGTERM or SIGINT.

    Args:
        config: configuration of the server.
        on_ready: called once, with the bound address, when the server accepts calls.
        shared_port: whether other workers listen on the same port; the supervisor then serves the metrics.

    Raises:
        ServingError: the server cannot start.
    """
    with ExitStack() as stack:
        metrics = None
        if config.metrics_address is not None:
            from partedvae.serving.metrics.endpoint import own_registry, scrape_server
            from partedvae.serving.metrics.metrics import Metrics

            registry = own_registry()
            metrics = Metrics(registry)
            if not shared_port:
                stack.enter_context(scrape_server(config.metrics_address, registry))
        repository = ModelRepository(config.models_dir, config.device, 1, metrics)
        watcher = stack.enter_context(RepositoryWatcher(repository, config.poll_seconds))
        asyncio.run(
            serve_until_stopped(
                config,
                repository,
                on_ready,
                shared_port=shared_port,
                metrics=metrics,
                on_hangup=watcher.check_now,
            )
        )


def main() -> None:
    """Run a supervised worker."""
    config: ServeConfig
    number: int  # from 1, for the log
    config, number = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_supervisor, args=(config.grace_seconds,), daemon=True).start()
    with server_logging(config, number):
        try:
            run(config, lambda _: print(STARTED_LINE, end="", flush=True), shared_port=True)
        except ServingError as error:
            print(" ".join(str(error).split()), flush=True)
            sys.exit(1)


def _end_with_supervisor(grace_seconds: float) -> None:
    """Wait until the supervisor is gone, then stop as on SIGTERM, or immediately if the worker is already stopping.

    The pipe is closed however the supervisor ended, on every operating system.
    """
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace_seconds + EXIT_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
