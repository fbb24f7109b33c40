"""Connections: thousands of idle ones, half of a handshake, connect and reset."""

from __future__ import annotations

import asyncio
import itertools

from benchmarks.attack.attack import AttackRun, attack
from benchmarks.attack.http2 import CLOSED, RawConnection
from benchmarks.attack.target import HEALTH

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"
"""An empty SETTINGS frame."""
CONNECTIONS = 1000
"""Fewer than the 1024 files that a process may open by default on most systems."""
AT_ONCE = 64
BEGINNINGS = (
    b"",
    PREFACE[:10],
    PREFACE,
    PREFACE + SETTINGS,
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\x16\3\1\2\0\1\0\1\xfc\3\3",  # TLS
)
"""What the connections send first."""


async def _open_many(run: AttackRun, address: str, count: int) -> None:
    """Keep a number of connections open, each with another beginning, and open those again that the server closes."""
    beginnings = itertools.cycle(BEGINNINGS)

    async def stay() -> None:
        async with run.raw(address=address) as connection:
            await connection.send(next(beginnings))
            run.outcomes["connected"] += 1
            while not connection.closed:
                await asyncio.sleep(0.2)
        run.outcomes[CLOSED] += 1

    await run.repeat(count, stay)


@attack("1,000 idle connections with whole, partial and wrong handshakes")
async def idle_connections(run: AttackRun) -> None:
    """Open connections and leave them."""
    await _open_many(run, run.target.address, CONNECTIONS)


@attack("connect and reset, 64 at a time")
async def connect_and_reset(run: AttackRun) -> None:
    """Open connections and drop them at once, with and without a handshake."""
    beginnings = itertools.cycle(BEGINNINGS)

    async def touch() -> None:
        async with run.raw(reads=False) as connection:
            await connection.send(next(beginnings))
            run.outcomes["connected"] += 1

    await run.repeat(AT_ONCE, touch)


@attack("a new connection for each health check, 64 at a time, no token", options="tokens")
async def connection_per_call(run: AttackRun) -> None:
    """Connect, ask for the health, close."""

    async def check() -> None:
        async with run.channel() as channel:
            await run.call(channel, HEALTH + "Check", b"", seconds=10)

    await run.repeat(AT_ONCE, check)


@attack("2,000 slow clients of the metrics port", before="2,013 threads")
async def slow_metrics_clients(run: AttackRun) -> None:
    """Open connections to the metrics port and send a request byte by byte."""
    assert run.target.metrics_address, "the server has no metrics port"
    request = b"GET /metrics HTTP/1.1\r\nHost: a\r\nX-Slow: "

    async def slow() -> None:
        async with RawConnection.open(run.target.metrics_address) as connection:
            await connection.send(request)
            run.outcomes["connected"] += 1
            while not connection.closed:
                await connection.send(b"a")
                await asyncio.sleep(1)
        run.outcomes[CLOSED] += 1

    run.start()
    await run.repeat(2000, slow)


@attack("requests for unknown paths, long paths and long headers of the metrics port, 16 at a time")
async def metrics_requests(run: AttackRun) -> None:
    """Ask the metrics port for what it does not have."""
    assert run.target.metrics_address, "the server has no metrics port"
    requests = itertools.cycle(
        [
            b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /" + b"a" * 60_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /metrics HTTP/1.1\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
            b"POST /metrics HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n",
            b"GET /metrics?name[]=" + b"a&name[]=" * 5000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        ]
    )

    async def ask() -> None:
        async with RawConnection.open(run.target.metrics_address) as connection:
            await connection.send(next(requests))
            run.outcomes["sent"] += 1
            await asyncio.sleep(0.05)

    run.start()
    await run.repeat(16, ask)
