"""The HTTP endpoint of probes and of Prometheus: /metrics, /healthz and /readyz.

It has no authentication; the operator's guide says so.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, ProcessCollector, generate_latest
from prometheus_client.registry import Collector

from partedvae.serving.config.addresses import is_loopback, split_address
from partedvae.serving.errors import AddressError
from partedvae.serving.metrics.http_server import HttpServer, Reply, Route

logger = logging.getLogger(__name__)

BACKLOG = 512
"""Connections that wait to be accepted."""
MIN_PAUSE = 0.05
MAX_SHARE = 0.1
"""Metrics are formatted at most every 0.05 s, and during at most this share of the time: calls need the interpreter."""


class Exposition:
    """Formats metrics, once for all scrapes that wait."""

    def __init__(self, metrics: Collector, refresh: Callable[[], Awaitable[None]] | None = None) -> None:
        """Create it within the event loop that serves it.

        Args:
            metrics: the metrics.
            refresh: called before they are collected.
        """
        self._metrics = metrics
        self._refresh = refresh
        self._turn = asyncio.Lock()
        self._not_before = 0.0
        self._next: asyncio.Task[bytes] | None = None

    async def latest(self) -> bytes:
        """Return the metrics in Prometheus' text format, no older than the call."""
        if self._next is None:
            self._next = asyncio.create_task(self._format())
        return await asyncio.shield(self._next)

    async def _format(self) -> bytes:
        async with self._turn:
            await asyncio.sleep(self._not_before - time.monotonic())
            self._next = None  # What is called from now on may need newer metrics.
            if self._refresh is not None:
                await self._refresh()
            began = time.thread_time()
            try:
                parts = []
                for metric in self._metrics.collect():
                    parts.append(generate_latest(_Single(metric)))
                    await asyncio.sleep(0)  # Lets other threads run.
                return b"".join(parts)
            finally:
                pause = max(MIN_PAUSE, (time.thread_time() - began) / MAX_SHARE)
                self._not_before = time.monotonic() + pause


class _Single(Collector):
    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> list[Metric]:
        return [self._metric]


def routes(exposition: Exposition, is_alive: Callable[[], bool], is_ready: Callable[[], bool]) -> Mapping[str, Route]:
    """Return the paths of the endpoint.

    Args:
        exposition: for /metrics.
        is_alive: whether /healthz replies 200, or 503.
        is_ready: whether /readyz replies 200, or 503.
    """

    async def metrics() -> Reply:
        return Reply(HTTPStatus.OK, await exposition.latest(), CONTENT_TYPE_LATEST)

    async def healthz() -> Reply:
        return _probe(is_alive(), "ok\n", "the event loop does not run\n")

    async def readyz() -> Reply:
        return _probe(is_ready(), "ok\n", "not serving\n")

    return {"/metrics": metrics, "/healthz": healthz, "/readyz": readyz}


def _probe(good: bool, yes: str, no: str) -> Reply:
    status, text = (HTTPStatus.OK, yes) if good else (HTTPStatus.SERVICE_UNAVAILABLE, no)
    return Reply(status, text.encode())


def own_registry() -> CollectorRegistry:
    """Return a registry for the metrics of this process, including its memory, CPU time and open files."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


@contextmanager
def listening(address: str) -> Iterator[socket.socket]:
    """Listen on an address in the block.

    Args:
        address: HOST:PORT; port 0 selects a free port.

    Raises:
        AddressError: the address is malformed, in use, or not an address of this machine.
    """
    host, port = split_address(address)
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(target)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise AddressError(
            f"cannot listen on {address} for metrics: {error.strerror or error}; choose another --metrics-address"
        ) from error
    with listener:
        at = address_of(address, listener)
        logger.info("metrics on http://%s/metrics", at)
        if not is_loopback(address):
            logger.warning(
                "everyone who can connect to %s can read the metrics, which have no token and no TLS; listen on "
                "127.0.0.1, or let only Prometheus and probes connect",
                at,
            )
        yield listener


def address_of(address: str, listener: socket.socket) -> str:
    """Return HOST:PORT with the port in use."""
    return f"{split_address(address)[0]}:{listener.getsockname()[1]}"


@contextmanager
def scrape_server(
    address: str,
    registry: Collector,
    *,
    is_alive: Callable[[], bool] = lambda: True,
    is_ready: Callable[[], bool] = lambda: True,
) -> Iterator[str]:
    """Serve the endpoint from a thread within the block.

    Args:
        address: HOST:PORT; port 0 selects a free port.
        registry: metrics to serve.
        is_alive: state for /healthz; called from the thread.
        is_ready: state for /readyz; called from the thread.

    Yields:
        HOST:PORT with the port in use.

    Raises:
        AddressError: the address is malformed, in use, or not an address of this machine.
    """
    with listening(address) as listener:
        loop, stop = asyncio.new_event_loop(), asyncio.Event()

        async def serve() -> None:
            async with HttpServer(routes(Exposition(registry), is_alive, is_ready)).serving(listener):
                await stop.wait()

        def run() -> None:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(serve())

        thread = threading.Thread(target=run, name="partedvae-metrics", daemon=True)
        thread.start()
        try:
            yield address_of(address, listener)
        finally:
            with suppress(RuntimeError):  # The loop is closed: the thread has failed.
                loop.call_soon_threadsafe(stop.set)
            thread.join()
