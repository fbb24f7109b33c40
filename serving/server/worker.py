"""One process that serves: alone, or as one of several that a supervisor started (see `supervisor`).

A worker gets its orders on stdin, which stays open as long as the supervisor lives, and reports one line on stdout.
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

from partedvae.serving.config.config import ServeConfig
from partedvae.serving.config.logging import configure
from partedvae.serving.errors import ServingError
from partedvae.serving.grpc.server import serve_until_stopped
from partedvae.serving.repository.repository import ModelRepository
from partedvae.serving.repository.watcher import RepositoryWatcher
from partedvae.serving.server.supervisor import READY

LAST_RESORT_SECONDS = 5.0
"""After the grace, how long a process may take to end by itself."""


def run(config: ServeConfig, on_ready: Callable[[str], None], *, shared_port: bool = False) -> None:
    """Load the models and serve them until a signal.

    Args:
        config: all of it.
        on_ready: called once with the real address when the server answers.
        shared_port: whether other workers listen on the port; metrics are then shown by the supervisor.

    Raises:
        ServingError: it cannot be done.
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
    """Serve as a supervisor says."""
    config: ServeConfig
    number: int  # from 1, for the log
    config, number = pickle.load(sys.stdin.buffer)
    configure(config, number)
    threading.Thread(target=_end_with_supervisor, args=(config.grace_seconds,), daemon=True).start()
    try:
        run(config, lambda _: print(READY, flush=True), shared_port=True)
    except ServingError as error:
        print(" ".join(str(error).split()), flush=True)
        sys.exit(1)


def _end_with_supervisor(grace_seconds: float) -> None:
    """Wait until the supervisor is gone, then stop as at SIGTERM: finish the work, or at once if that was going on.

    The end of a pipe comes to be known however the supervisor ended, on every system.
    """
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace_seconds + LAST_RESORT_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
