"""Requests that never end: most of a message, a byte at a time, no message at all, or a length that never comes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

from benchmarks.attack.attack import NEVER_ANSWERED, AttackRun, attack
from benchmarks.attack.http2 import grpc_message
from benchmarks.attack.messages import classify, pixels
from benchmarks.attack.target import HEALTH, OPEN_INFERENCE, REFLECTION, SERVICE

METHODS = tuple(SERVICE + name for name in ("Classify", "ExtractFeatures", "StreamFeatures", "Generate", "ListModels"))
FREE_METHODS = (HEALTH + "Check", HEALTH + "Watch", REFLECTION)
"""Those that need no token."""
STREAMS = 60
PAUSE = 0.02
MAX_LENGTH = 2**32 - 1
ANSWER_SECONDS = 3.0
"""Time in which a request that has ended must be answered."""


async def _begin_requests(
    run: AttackRun, paths: Sequence[str], share: float, *, connections: int = 2, streams: int = STREAMS
) -> None:
    """Send a share of the largest message on the streams of some connections, and leave them open."""
    length = int(0.999 * run.target.max_message_bytes)
    body = grpc_message(bytes(int(share * length)), length=length)
    methods = itertools.cycle(paths)

    async def client() -> None:
        async with run.connection() as connection:

            async def send() -> None:
                stream = await connection.start(next(methods))
                finished = await connection.send(stream, body)
                run.outcomes["sent" if finished else await connection.outcome(stream)] += 1
                # An answer ends the stream: open the next.
                run.outcomes[await connection.outcome(stream)] += 1
                await asyncio.sleep(PAUSE)

            await run.repeat(streams, send, connection)

    await run.repeat(connections, client)


@attack("120 requests, 15/16 of the largest message each, on 2 connections", before="1.1 GB")
async def unfinished_requests(run: AttackRun) -> None:
    """Send most of a message to methods of both services, and wait."""
    await _begin_requests(run, (*METHODS, OPEN_INFERENCE + "ModelInfer", OPEN_INFERENCE + "ServerLive"), 15 / 16)


@attack("requests that have half of the largest message, 4 on each of 40 connections")
async def unfinished_requests_of_many(run: AttackRun) -> None:
    """Send half of a message on many connections, so that no share of a connection is used up."""
    await _begin_requests(run, METHODS, 1 / 2, connections=40, streams=4)


@attack("120 requests, 15/16 of the largest message each, to health and reflection", options="tokens", before="1.1 GB")
async def unfinished_requests_to_health(run: AttackRun) -> None:
    """Send most of a message to the services that need no token, and to one that needs it."""
    await _begin_requests(run, (*FREE_METHODS, SERVICE + "Classify"), 15 / 16)


@attack("500 requests, a byte each every 20 ms")
async def byte_by_byte(run: AttackRun) -> None:
    """Send valid requests so slowly that they are never complete."""
    body = grpc_message(classify(run.target, pixels(run.target)))

    async def client() -> None:
        async with run.connection() as connection:
            streams = [await connection.start(METHODS[number % len(METHODS)]) for number in range(100)]
            run.outcomes["sent"] += len(streams)
            for position in range(len(body) - 1):
                for stream in streams:
                    await connection.send(stream, body[position : position + 1])
                await asyncio.sleep(PAUSE)

    await run.repeat(5, client)


@attack("requests without a message, headers that nothing follows, lengths of 4 GiB", before="never answered")
async def no_message(run: AttackRun) -> None:
    """End requests without a message, leave them without one, or announce one that does not come."""
    bodies = (b"", b"\0", grpc_message(b"", length=MAX_LENGTH), grpc_message(b"\n", length=100), grpc_message(b"") * 2)

    async def client() -> None:
        async with run.connection() as connection:
            ended = []
            for number, path in enumerate((*METHODS, *FREE_METHODS) * 8):
                end = number % 3 != 0
                stream = await connection.request(path, bodies[number % len(bodies)], end=end)
                # Watch goes on even after a whole request.
                if end and path != HEALTH + "Watch":
                    ended.append(stream)
                run.outcomes["sent"] += 1
            for stream in ended:
                try:
                    async with asyncio.timeout(ANSWER_SECONDS):
                        run.outcomes[await connection.outcome(stream)] += 1
                except TimeoutError:
                    run.outcomes[NEVER_ANSWERED] += 1
                    return

    await run.repeat(5, client)


@attack("empty DATA frames without end on 100 streams")
async def empty_data(run: AttackRun) -> None:
    """Keep streams open by frames that carry nothing."""

    async def client() -> None:
        async with run.connection() as connection:
            streams = [await connection.start(METHODS[number % len(METHODS)]) for number in range(100)]
            open_streams = True
            while open_streams:
                open_streams = False
                for stream in streams:
                    open_streams |= await connection.send(stream, b"")
                run.outcomes["sent"] += len(streams)
                await asyncio.sleep(0)

    await run.repeat(2, client)
