"""Floods of ordinary calls: valid, refused, unknown, cancelled, too late, and those with the largest replies."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from benchmarks.attack.attack import AttackRun, attack
from benchmarks.attack.attacks.unread import large_replies
from benchmarks.attack.http2 import grpc_message
from benchmarks.attack.messages import classify, generate, pixels
from benchmarks.attack.target import HEALTH, OPEN_INFERENCE, REFLECTION, SERVICE
from partedvae.v1 import service_pb2 as pb

AT_ONCE = 128
"""More than the calls that the server admits."""
SHORT = 1e-6
"""Deadline in seconds."""


async def _flood(
    run: AttackRun,
    requests: Sequence[tuple[str, bytes]],
    *,
    connections: int,
    at_once: int = AT_ONCE,
    seconds: float = 20.0,
) -> None:
    turns = itertools.cycle(requests)

    async def client() -> None:
        async with run.channel() as channel:

            async def call() -> None:
                path, message = next(turns)
                await run.call(channel, path, message, seconds=seconds)

            await run.repeat(at_once // connections, call)

    await run.repeat(connections, client)


def _cheap(run: AttackRun) -> list[tuple[str, bytes]]:
    return [
        (SERVICE + "Classify", classify(run.target, pixels(run.target))),
        (SERVICE + "ListModels", b""),
        (SERVICE + "Generate", generate(run.target)),
        (OPEN_INFERENCE + "ServerLive", b""),
        (HEALTH + "Check", b""),
    ]


@attack("valid cheap calls, 128 at a time, on one connection")
async def call_flood(run: AttackRun) -> None:
    """Make small calls without pause on one connection."""
    await _flood(run, _cheap(run), connections=1)


@attack("valid cheap calls, 128 at a time, on 64 connections")
async def call_flood_of_many(run: AttackRun) -> None:
    """Make small calls without pause on many connections."""
    await _flood(run, _cheap(run), connections=64)


@attack("calls that are refused, 128 at a time, on 16 connections")
async def refused_flood(run: AttackRun) -> None:
    """Ask for unknown models, classes, services and symbols."""
    requests = [
        (SERVICE + "GetModel", pb.GetModelRequest(model=pb.ModelSelector(name="nobody")).SerializeToString()),
        (SERVICE + "GetModel", b"\xff\xff"),
        (SERVICE + "Generate", pb.GenerateRequest(count=1, classes={"nothing": "1"}).SerializeToString()),
        (OPEN_INFERENCE + "ModelInfer", b""),
        (HEALTH + "Check", b"\n\x06nobody"),
    ]
    await _flood(run, requests, connections=16)


@attack("thousands of methods that do not exist, 128 at a time")
async def unknown_methods(run: AttackRun) -> None:
    """Call another method each time, so that nothing may be kept per method."""
    numbers = itertools.count()
    async with run.channel() as channel:
        await run.repeat(AT_ONCE, lambda: run.call(channel, f"/partedvae.v1.PartedVAEService/M{next(numbers)}", b""))


@attack("health garbage and reflection garbage, 32 at a time, no token", options="tokens", before="UNKNOWN, traceback")
async def garbage_to_health(run: AttackRun) -> None:
    """Send bytes that are no messages."""
    garbage = [b"\xff" * 20, b"\n\x05ab", b"\x0a\xff\xff\xff\xff\x0f", bytes(range(256))]
    turns = itertools.cycle(garbage)
    async with run.channel() as channel:

        async def send() -> None:
            message = next(turns)
            await run.call(channel, HEALTH + "Check", message)
            await run.stream(HEALTH + "Watch", [message])
            await run.stream(REFLECTION, [message])

        await run.repeat(32, send)


@attack("deadlines of a microsecond, 128 at a time")
async def short_deadlines(run: AttackRun) -> None:
    """Make calls that are over before they arrive."""
    await _flood(run, [*_cheap(run), *large_replies(run.target)], connections=4, seconds=SHORT)


@attack("calls for full replies that are cancelled at once, 128 at a time")
async def cancelled_calls(run: AttackRun) -> None:
    """Cancel each call as soon as it is sent."""
    requests = itertools.cycle(large_replies(run.target))
    async with run.connection() as connection:

        async def cancel() -> None:
            path, message = next(requests)
            stream = await connection.request(path, grpc_message(message))
            await connection.reset(stream)
            run.outcomes["CANCELLED"] += 1

        await run.repeat(AT_ONCE, cancel, connection)


@attack("full replies of Generate, Traverse, TransferAttributes, 64 at a time, read")
async def full_replies(run: AttackRun) -> None:
    """Ask for the largest replies and read them."""
    await _flood(run, large_replies(run.target), connections=8, at_once=64)


@attack("requests for another version each, with 4 versions in the folder", before="took all processor time")
async def version_cycling(run: AttackRun) -> None:
    """Ask for old versions in turn, so that none stays loaded."""
    requests = []
    for version in run.target.versions:
        selector = pb.ModelSelector(name=run.target.model, version=version)
        requests.append((SERVICE + "GetModel", pb.GetModelRequest(model=selector).SerializeToString()))
        request = pb.ClassifyRequest(model=selector, images=pixels(run.target))
        requests.append((SERVICE + "Classify", request.SerializeToString()))
    await _flood(run, requests, connections=2, at_once=32)


@attack("calls that are cancelled by losing their connection", before="–")
async def lost_connections(run: AttackRun) -> None:
    """Send calls for full replies and drop the connection before they are answered."""
    requests = itertools.cycle(large_replies(run.target))

    async def client() -> None:
        async with run.connection(reads=False) as connection:
            for _ in range(8):
                path, message = next(requests)
                await connection.request(path, grpc_message(message))
                run.outcomes["sent"] += 1

    await run.repeat(4, client)


@attack("valid requests with as many images as a request may have, 32 at a time, on 8 connections")
async def large_requests(run: AttackRun) -> None:
    """Send large requests that the server computes, on both services' calls and on streams."""
    target = run.target
    count = min(target.max_images, (target.max_message_bytes - 1024) // target.image_bytes)
    images = pixels(target, count)
    model = pb.ModelSelector(name=target.model)
    requests = [
        (SERVICE + "Classify", classify(target, images)),
        (SERVICE + "Reconstruct", pb.ReconstructRequest(model=model, images=images).SerializeToString()),
        (SERVICE + "ExtractFeatures", pb.ExtractFeaturesRequest(model=model, images=images).SerializeToString()),
    ]
    await _flood(run, requests, connections=8, at_once=32)
