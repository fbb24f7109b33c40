"""Replies that the client never reads, or a byte at a time: the server must not pile them up."""

from __future__ import annotations

import asyncio
import itertools
import math

from benchmarks.attack.attack import AttackRun, attack
from benchmarks.attack.http2 import Connection, grpc_message
from benchmarks.attack.messages import field, full_reply, generate, pixels, selector, stream_features
from benchmarks.attack.target import REFLECTION, SERVICE, Target
from partedvae.v1 import service_pb2 as pb

STREAMS = 300
"""Streams of a connection."""
STREAM_IMAGES = 64
MAX_STEPS = 64
"""Maximum columns of a traversal."""
PAUSE = 0.02
"""Seconds between the steps of slow readers and of streams that are refused."""


def large_replies(target: Target) -> list[tuple[str, bytes]]:
    """Return small requests whose replies are as large as the server allows."""
    model, count = selector(target), full_reply(target)
    prior = pb.PriorDraw(count=max(1, count // MAX_STEPS), seed=0)
    traverse = pb.TraverseRequest(model=model, prior=prior, z=pb.ZDimensions(dimensions=[0]), steps=MAX_STEPS)
    side = math.isqrt(count)
    transfer = pb.TransferAttributesRequest(model=model, z_images=pixels(target, side), u_images=pixels(target, side))
    return [
        (SERVICE + "Generate", generate(target, count)),
        (SERVICE + "Traverse", traverse.SerializeToString()),
        (SERVICE + "TransferAttributes", transfer.SerializeToString()),
    ]


async def _ask_and_leave(run: AttackRun, connection: Connection) -> None:
    """Open streams whose replies are not read until the connection is lost, and count how many were answered."""
    requests = itertools.cycle(large_replies(run.target))
    for _ in range(STREAMS):
        path, message = next(requests)
        await connection.request(path, grpc_message(message))
        run.outcomes["sent"] += 1
        await asyncio.sleep(0)
    while not connection.closed:
        await asyncio.sleep(PAUSE)


@attack(
    "300 requests of 17 bytes for full replies, window 0, from each of 4 connections",
    options="default",
    before="3.2 GB",
)
async def unread_replies(run: AttackRun) -> None:
    """Ask for the largest replies and take none of them: SETTINGS_INITIAL_WINDOW_SIZE is 0."""

    async def client() -> None:
        async with run.connection(window=0, reads=False) as connection:
            await _ask_and_leave(run, connection)

    await run.repeat(4, client)


@attack("the same with the default window, of which nothing is given back")
async def unread_connections(run: AttackRun) -> None:
    """Fill the window of the whole connection instead of that of each stream."""

    async def client() -> None:
        async with run.connection(reads=False) as connection:
            await _ask_and_leave(run, connection)

    await run.repeat(4, client)


@attack("300 full replies, read one byte at a time")
async def slow_reading(run: AttackRun) -> None:
    """Enlarge the windows by a byte at a time, so that no reply is ever finished."""

    async def client() -> None:
        async with run.connection(window=1, reads=False) as connection:
            path, message = large_replies(run.target)[0]
            streams = [await connection.request(path, grpc_message(message)) for _ in range(STREAMS)]
            run.outcomes["sent"] += len(streams)
            while not connection.closed:
                for stream in streams:
                    await connection.enlarge_window(stream, 1)
                await asyncio.sleep(PAUSE)

    await run.repeat(4, client)


@attack("StreamFeatures that send images without end, and read nothing")
async def unread_streams(run: AttackRun) -> None:
    """Send on 50 streams per connection as long as the server takes messages."""
    message = grpc_message(stream_features(run.target, STREAM_IMAGES))

    async def client() -> None:
        async with run.connection(window=0, reads=False) as connection:

            async def send() -> None:
                stream = await connection.start(SERVICE + "StreamFeatures")
                while await connection.send(stream, message):
                    run.outcomes["sent"] += 1
                run.outcomes[await connection.outcome(stream)] += 1
                await asyncio.sleep(PAUSE)

            await run.repeat(50, send, connection)

    await run.repeat(2, client)


@attack("reflection streams that ask for all files without end, and read nothing")
async def unread_reflection(run: AttackRun) -> None:
    """Ask for the descriptors of the service, whose replies are hundreds of times larger."""
    message = grpc_message(field(4, b"partedvae.v1.PartedVAEService")) * 100

    async def client() -> None:
        async with run.connection(window=0, reads=False) as connection:

            async def send() -> None:
                stream = await connection.start(REFLECTION)
                while await connection.send(stream, message):
                    run.outcomes["sent"] += 1
                run.outcomes[await connection.outcome(stream)] += 1
                await asyncio.sleep(PAUSE)

            await run.repeat(20, send, connection)

    await run.repeat(4, client)
