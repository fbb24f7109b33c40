"""A client that behaves well, in a process of its own: it must not notice that the server is under attack.

It classifies one image twenty times per second by `partedvae.AsyncClient`, which waits and retries as the server asks,
and probes the health of the server every half second on a new connection, as Kubernetes does.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import multiprocessing
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Self

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from PIL import Image

from benchmarks.attack.attack import CHANNEL_OPTIONS
from benchmarks.attack.target import Target
from benchmarks.serving.load import BenchmarkError
from partedvae import AsyncClient

CLASSIFY, PROBE = "classify", "probe"
PERIODS = {CLASSIFY: 0.05, PROBE: 0.5}
"""Seconds between the calls of a kind."""
CALL_SECONDS = 5.0
"""Timeout of a call with all its retries, and of a probe: the timeoutSeconds of deploy/kubernetes.yaml."""
CONNECTIONS = 4
"""Of the client: the kernel distributes connections among workers, and some of these share one with the attacker."""
START_SECONDS = 60.0
POLL_SECONDS = 0.05
SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call of the good client."""

    kind: str
    """`CLASSIFY` or `PROBE`."""
    start: float
    """By the monotonic clock, in seconds."""
    seconds: float | None = None
    """Its duration; None while it is active."""
    error: str = ""
    """Why it failed; empty if it succeeded."""


class GoodClient:
    """Runs the good client within the block, and collects its calls."""

    def __init__(self, target: Target) -> None:
        """Prepare a client of a server."""
        self._receiver, sender = SPAWN.Pipe(duplex=False)
        self._stop = SPAWN.Event()
        self._process = SPAWN.Process(target=_main, args=(target, sender, self._stop), daemon=True)
        self._sender = sender
        self._calls: dict[int, Call] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._collect, daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        self._sender.close()
        self._thread.start()
        end = time.monotonic() + START_SECONDS
        while not any(call.kind == CLASSIFY and call.seconds for call in self.calls()):
            if time.monotonic() > end or not self._process.is_alive():
                raise BenchmarkError("the good client got no reply before the attack")
            time.sleep(POLL_SECONDS)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._process.join(2 * CALL_SECONDS)
        self._process.kill()
        self._process.join()
        self._thread.join()

    def calls(self, begin: float = 0.0, end: float = float("inf")) -> list[Call]:
        """Return the calls that started within a time, by the monotonic clock."""
        with self._lock:
            return [call for call in self._calls.values() if begin <= call.start < end]

    def wait_for(self, begin: float, end: float) -> list[Call]:
        """Return the calls that started within a time when all of them have ended."""
        patience = time.monotonic() + 2 * CALL_SECONDS
        while any(call.seconds is None for call in self.calls(begin, end)) and time.monotonic() < patience:
            time.sleep(POLL_SECONDS)
        return self.calls(begin, end)

    def _collect(self) -> None:
        with suppress(EOFError):
            while True:
                number, call = self._receiver.recv()
                with self._lock:
                    self._calls[number] = call


def _main(target: Target, sender: Connection, stop: threading.Event) -> None:
    asyncio.run(_run(target, sender, stop))


async def _run(target: Target, sender: Connection, stop: threading.Event) -> None:
    numbers = itertools.count()
    file = io.BytesIO()
    height, width, channels = target.image_shape
    Image.new("L" if channels == 1 else "RGB", (width, height), 100).save(file, "PNG")
    image = file.getvalue()
    async with AsyncClient(
        target.address,
        model=target.model,
        timeout=CALL_SECONDS,
        token=target.token or None,
        connections=CONNECTIONS,
    ) as client:

        async def classify() -> str:
            await client.classify(image, check_familiarity=False)
            return ""

        async def probe() -> str:
            async with grpc.aio.insecure_channel(target.address, options=CHANNEL_OPTIONS) as channel:
                reply = await HealthStub(channel).Check(HealthCheckRequest(), timeout=CALL_SECONDS)
                return "" if reply.status == HealthCheckResponse.SERVING else "not SERVING"

        async def record(kind: str, work: Callable[[], Awaitable[str]]) -> None:
            number, start = next(numbers), time.monotonic()
            sender.send((number, Call(kind=kind, start=start)))
            try:
                error = await work()
            except grpc.aio.AioRpcError as failure:
                error = f"{failure.code().name}: {failure.details()}"
            except Exception as failure:  # Whatever a user of the client would see.
                error = f"{type(failure).__name__}: {failure}"
            sender.send((number, Call(kind=kind, start=start, seconds=time.monotonic() - start, error=error)))

        works = {CLASSIFY: classify, PROBE: probe}
        await record(CLASSIFY, classify)
        await asyncio.gather(*(_paced(PERIODS[kind], lambda k=kind: record(k, works[k]), stop) for kind in works))  # type: ignore[misc]  # mypy cannot infer the lambda


async def _paced(period: float, work: Callable[[], Awaitable[None]], stop: threading.Event) -> None:
    """Start some work in a task of its own at regular times, however long the previous ones take."""
    tasks: set[asyncio.Task[None]] = set()
    for due in _times(period):
        await asyncio.sleep(due - time.monotonic())
        if stop.is_set():
            break
        task = asyncio.ensure_future(work())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)


def _times(period: float) -> Iterator[float]:
    """Return times of the monotonic clock; those that have passed are skipped."""
    due = time.monotonic()
    while True:
        yield due
        due = max(due + period, time.monotonic())
