"""Where Prometheus scrapes: an HTTP server for the numbers of one process, or for those of all workers together.

Imports prometheus_client only when it is used: a process that starts workers must first say where they share their
numbers, because the library decides when it is imported.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from partedvae.serving.config.addresses import split_address
from partedvae.serving.errors import AddressError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

logger = logging.getLogger(__name__)

SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client's own variable."""


@contextmanager
def shared_folder() -> Iterator[str]:
    """Let the processes that are started in the block share their numbers; yield the folder where they do.

    To be entered before any of them, and whatever they are forked from, imports `partedvae.serving.metrics.metrics`.
    """
    with tempfile.TemporaryDirectory(prefix="partedvae-metrics-") as folder:
        os.environ[SHARED_FOLDER] = folder
        try:
            yield folder
        finally:
            del os.environ[SHARED_FOLDER]


def own_registry() -> CollectorRegistry:
    """Return a registry for the numbers of this process alone, with its memory, processor time and open files."""
    from prometheus_client import CollectorRegistry, ProcessCollector

    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


def shared_registry(folder: str) -> CollectorRegistry:
    """Return a registry that adds up the numbers of the processes that share a folder."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=folder)  # type: ignore[no-untyped-call]  # the library is half typed
    return registry


def forget_process(folder: str, pid: int) -> None:
    """Leave out the gauges of a process that has ended; what it counted stays."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(pid, path=folder)  # type: ignore[no-untyped-call]  # the library is half typed


@contextmanager
def scrape_server(address: str, registry: CollectorRegistry) -> Iterator[str]:
    """Answer `GET /metrics` in a thread, as long as the block lasts.

    Args:
        address: HOST:PORT; port 0 takes a free one.
        registry: what to tell.

    Yields:
        HOST:PORT with the real port.

    Raises:
        AddressError: the address is malformed, taken, or not this machine's.
    """
    from prometheus_client import start_http_server

    host, port = split_address(address)
    try:
        server, thread = start_http_server(port, host.strip("[]"), registry)
    except OSError as error:
        raise AddressError(
            f"cannot listen on {address} for metrics: {error.strerror or error}; choose another --metrics-address"
        ) from error
    try:
        at = f"{host}:{server.server_port}"
        logger.info("metrics on http://%s/metrics", at)
        yield at
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
