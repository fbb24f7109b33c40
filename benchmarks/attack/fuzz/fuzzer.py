"""Sends mutated requests with many calls in flight, from several processes, and counts the statuses of each method."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe

import grpc

from benchmarks.attack.attack import CHANNEL_OPTIONS
from benchmarks.attack.fuzz.methods import Method, methods, seeds
from benchmarks.attack.fuzz.mutations import mutated
from benchmarks.attack.good_client import SPAWN
from benchmarks.attack.http2 import CLOSED, Connection, grpc_message
from benchmarks.attack.target import Target
from benchmarks.serving.load import BenchmarkError

CALL_SECONDS = 20.0
"""Deadline of each call: one that exceeds it has no answer."""
COMPRESSED = 0.1
"""Share of the calls whose messages are compressed by gRPC."""
MISFRAMED = 0.02
"""Share of the calls whose gRPC prefix is wrong: flags that no encoding explains, and lengths that do not match."""
FRAMING = " (framing)"
"""Marks the counts of these calls: the specification of gRPC has INTERNAL for an inexplicable flag."""
MAX_MESSAGES = 3
"""Messages of a stream."""
POLL_SECONDS = 0.25

Statuses = Counter[tuple[str, str]]
"""Counts by the path of a method and the name of a status."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a process sends."""

    target: Target
    seed: int
    requests: int
    in_flight: int


def fuzz(
    target: Target, *, requests: int, processes: int, in_flight: int, seed: int, on_progress: Callable[[int], None]
) -> Statuses:
    """Send mutated requests and return the statuses.

    Args:
        target: the server.
        requests: number of requests.
        processes: number of processes that send them.
        in_flight: concurrent calls of each.
        seed: of the mutations: the same seed sends the same requests.
        on_progress: called regularly with the number of answered requests.

    Raises:
        BenchmarkError: a process failed.
    """
    progress = [SPAWN.Value("q", 0) for _ in range(processes)]
    receivers, running = [], []
    for number in range(processes):
        share = requests // processes + (number < requests % processes)
        plan = Plan(target=target, seed=seed + number, requests=share, in_flight=in_flight)
        receiver, sender = SPAWN.Pipe(duplex=False)
        process = SPAWN.Process(target=_main, args=(plan, progress[number], sender), daemon=True)
        process.start()
        sender.close()
        receivers.append(receiver)
        running.append(process)
    total: Statuses = Counter()
    try:
        for receiver in receivers:
            while not receiver.poll(POLL_SECONDS):
                on_progress(sum(value.value for value in progress))
            total += receiver.recv()
    except EOFError as error:
        raise BenchmarkError("a process of the fuzzer failed; see its traceback above") from error
    finally:
        for process in running:
            process.kill()
            process.join()
    return total


def _main(plan: Plan, progress: object, sender: Pipe) -> None:
    sender.send(asyncio.run(_run(plan, progress)))


async def _run(plan: Plan, progress: object) -> Statuses:
    statuses: Statuses = Counter()
    rng = random.Random(plan.seed)
    known, all_methods = seeds(plan.target), methods()
    left = plan.requests

    async def caller(channel: grpc.aio.Channel) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            method = rng.choice(all_methods)
            count = rng.randint(1, MAX_MESSAGES) if method.streams and not method.is_endless else 1
            messages = [mutated(rng, known[method.path]) for _ in range(count)]
            if rng.random() < MISFRAMED:
                statuses[method.path + FRAMING, await _misframed(plan.target, method, messages[0], rng)] += 1
            else:
                compression = grpc.Compression.Gzip if rng.random() < COMPRESSED else grpc.Compression.NoCompression
                statuses[method.path, await _call(channel, method, messages, compression)] += 1
            progress.value += 1  # type: ignore[attr-defined]  # a multiprocessing.Value

    async with grpc.aio.insecure_channel(plan.target.address, options=CHANNEL_OPTIONS) as channel:
        await asyncio.gather(*(caller(channel) for _ in range(plan.in_flight)))
    return statuses


async def _call(channel: grpc.aio.Channel, method: Method, messages: list[bytes], compression: grpc.Compression) -> str:
    """Make a call and return the name of its status."""
    try:
        if not method.streams:
            unary: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method.path)
            await unary(messages[0], timeout=CALL_SECONDS, compression=compression)
            return "OK"
        streaming: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method.path)
        call = streaming(iter(messages), timeout=CALL_SECONDS, compression=compression)
        async for _ in call:
            if method.is_endless:
                call.cancel()
                return "OK"
    except grpc.aio.AioRpcError as error:
        return str(error.code().name)
    return "OK"


async def _misframed(target: Target, method: Method, message: bytes, rng: random.Random) -> str:
    """Send a message with a wrong prefix on a connection of its own, and return the status."""
    flag = rng.choice((0, 1, 2, 255))
    length = rng.choice((len(message), len(message) + 1, max(0, len(message) - 1), 0, 2**32 - 1))
    begin = time.monotonic()
    try:
        async with asyncio.timeout(CALL_SECONDS), Connection.open(target.address) as connection:
            extra = [("grpc-timeout", f"{CALL_SECONDS / 2:.0f}S")]
            stream = await connection.request(method.path, grpc_message(message, flag=flag, length=length), extra)
            return await connection.outcome(stream)
    except TimeoutError:
        return f"no answer after {time.monotonic() - begin:.0f} s"
    except OSError:
        return CLOSED
