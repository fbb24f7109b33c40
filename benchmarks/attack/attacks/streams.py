"""Streams that are opened and left open: Watch of the health service, StreamFeatures, reflection."""

from __future__ import annotations

import asyncio

from benchmarks.attack.attack import AttackRun, attack
from benchmarks.attack.http2 import grpc_message
from benchmarks.attack.messages import stream_features
from benchmarks.attack.target import HEALTH, REFLECTION, SERVICE

PAUSE = 0.1
MESSAGES = 200
"""Messages per write of a stream."""


async def _open_streams(run: AttackRun, path: str, body: bytes, *, connections: int, streams: int, end: bool) -> None:
    async def client() -> None:
        async with run.connection() as connection:
            opened = [await connection.request(path, body, end=end) for _ in range(streams)]
            run.outcomes["sent"] += len(opened)
            for stream in opened:
                run.outcomes[await connection.outcome(stream)] += 1
            await asyncio.sleep(PAUSE)

    await run.repeat(connections, client)


@attack("20,000 Watch streams from 20 connections, 3 MB, no token", options="tokens", before="no answer for 20 s")
async def watch_flood(run: AttackRun) -> None:
    """Open as many Watch streams as the server allows."""
    await _open_streams(run, HEALTH + "Watch", grpc_message(b""), connections=20, streams=1000, end=True)


@attack("2,000 reflection streams from 20 connections, no token", options="tokens")
async def reflection_streams(run: AttackRun) -> None:
    """Open as many reflection streams as the server allows, and ask nothing."""
    await _open_streams(run, REFLECTION, b"", connections=20, streams=100, end=False)


@attack("1,100 idle StreamFeatures on one connection, again when they are ended", before="took all calls for ever")
async def idle_streams(run: AttackRun) -> None:
    """Open as many streams as the server allows, and send nothing."""
    await _open_streams(run, SERVICE + "StreamFeatures", b"", connections=1, streams=1100, end=False)


@attack("1,100 idle StreamFeatures on 22 connections")
async def idle_streams_of_many(run: AttackRun) -> None:
    """Open as many streams as the server allows on each of many connections."""
    await _open_streams(run, SERVICE + "StreamFeatures", b"", connections=22, streams=50, end=False)


@attack("StreamFeatures with an image per message, as fast as they are taken, on 64 streams of 4 connections")
async def small_messages(run: AttackRun) -> None:
    """Send many small messages on streams, and read the replies."""
    messages = grpc_message(stream_features(run.target)) * MESSAGES

    async def client() -> None:
        async with run.connection() as connection:

            async def send() -> None:
                stream = await connection.request(SERVICE + "StreamFeatures", messages)
                run.outcomes[await connection.outcome(stream)] += 1

            await run.repeat(16, send, connection)

    await run.repeat(4, client)
