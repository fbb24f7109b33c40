"""The HTTP endpoint that Prometheus scrapes: metrics of one process, or of all workers together.

prometheus_client is imported on first use: it decides at import whether metrics are shared between processes, so that
`shared_folder` must be entered before.
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
"""Environment variable of prometheus_client."""


@contextmanager
def shared_folder() -> Iterator[str]:
    """Share the metrics of the processes that are started within the block, through files in a temporary folder.

    Enter it before this process or any of the others imports `partedvae.serving.metrics.metrics`.

    Yields:
        The folder.
    """
    with tempfile.TemporaryDirectory(prefix="partedvae-metrics-") as folder:
        os.environ[SHARED_FOLDER] = folder
        try:
            yield folder
        finally:
            del os.environ[SHARED_FOLDER]


def own_registry() -> CollectorRegistry:
    """Return a registry for the metrics of this process, including its memory, CPU time and open files."""
    from prometheus_client import CollectorRegistry, ProcessCollector

    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


def shared_registry(folder: str) -> CollectorRegistry:
    """Return a registry that aggregates the metrics of the processes that share a folder."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=folder)  # type: ignore[no-untyped-call]  # the library is half typed
    return registry


def forget_process(folder: str, pid: int) -> None:
    """Remove the gauges of a process that has ended; its counters stay."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(pid, path=folder)  # type: ignore[no-untyped-call]  # the library is half typed


@contextmanager
def scrape_server(address: str, registry: CollectorRegistry) -> Iterator[str]:
    """Serve `GET /metrics` from a thread within the block.

    Args:
        address: HOST:PORT; port 0 selects a free port.
        registry: metrics to serve.

    Yields:
        HOST:PORT with the port in use.

    Raises:
        AddressError: the address is malformed, in use, or not an address of this machine.
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
