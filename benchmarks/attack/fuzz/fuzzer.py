"""Sends mutated requests with many calls in flight, from several processes, and counts the statuses of each method."""

from __future__ import annotations

import asyncio
import gzip
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe

import grpc

from benchmarks.attack.attack import CHANNEL_OPTIONS
from benchmarks.attack.fuzz.methods import Method, methods, seeds
from benchmarks.attack.fuzz.mutations import mutated
from benchmarks.attack.good_client import SPAWN
from benchmarks.attack.http2 import CLOSED, Connection, Header, grpc_message
from benchmarks.attack.target import Target
from benchmarks.serving.load import BenchmarkError

CALL_SECONDS = 20.0
"""Deadline of each call: one that exceeds it has no answer."""
COMPRESSED = 0.1
"""Share of the calls whose messages are compressed by gRPC."""
MISFRAMED = 0.02
"""Share of the calls whose gRPC prefix is wrong: flags that no encoding explains, and lengths that do not match."""
MISFRAMED_AT_ONCE = 32
FRAMING_SECONDS = 5.0
"""How long they wait for an answer: a server may wait for the rest of a message."""
FRAMING = " (framing)"
"""Marks the counts of these calls: the specification of gRPC has INTERNAL for an inexplicable flag."""
FAULTS = ("INTERNAL", "UNKNOWN", "DEADLINE_EXCEEDED", "UNAVAILABLE", CLOSED)
"""Statuses of faults of the server, and of calls that it did not answer."""
MAX_EXAMPLE = 500
"""Bytes of each message of an example."""
MAX_MESSAGES = 3
"""Messages of a stream."""
POLL_SECONDS = 0.25

Statuses = Counter[tuple[str, str]]
"""Counts by the path of a method and the name of a status."""


@dataclass(frozen=True, kw_only=True)
class FuzzResult:
    """How a server answered."""

    statuses: Statuses
    examples: dict[tuple[str, str], str]
    """Of faults: the details and the request in hexadecimal digits."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a process sends."""

    target: Target
    seed: int
    requests: int
    in_flight: int


def fuzz(
    target: Target, *, requests: int, processes: int, in_flight: int, seed: int, on_progress: Callable[[int], None]
) -> FuzzResult:
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
    statuses: Statuses = Counter()
    examples: dict[tuple[str, str], str] = {}
    try:
        for receiver in receivers:
            while not receiver.poll(POLL_SECONDS):
                on_progress(sum(value.value for value in progress))
            result = receiver.recv()
            statuses += result.statuses
            examples |= result.examples
    except EOFError as error:
        raise BenchmarkError("a process of the fuzzer failed; see its traceback above") from error
    finally:
        for process in running:
            process.kill()
            process.join()
    return FuzzResult(statuses=statuses, examples=examples)


def _main(plan: Plan, progress: object, sender: Pipe) -> None:
    sender.send(asyncio.run(_run(plan, progress)))


async def _run(plan: Plan, progress: object) -> FuzzResult:
    statuses: Statuses = Counter()
    examples: dict[tuple[str, str], str] = {}
    rng = random.Random(plan.seed)
    known, all_methods = seeds(plan.target), methods()
    left = plan.requests

    async def caller(channel: grpc.aio.Channel) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            method = rng.choice(all_methods)
            count = rng.randint(1, MAX_MESSAGES) if method.sends_stream else 1
            messages = [mutated(rng, known[method.path]) for _ in range(count)]
            compressed = rng.random() < COMPRESSED
            if rng.random() < MISFRAMED:
                # Those that get no answer must not delay the others.
                body = _misframe(messages[0], rng)
                tasks.create_task(misframed(method.path, body))
                continue
            status, details = (
                (await _stream(plan.target, method, messages, compressed), "")
                if method.sends_stream
                else await _call(channel, method, messages[0], compressed)
            )
            statuses[method.path, status] += 1
            if status in FAULTS:
                sent = " ".join(message[:MAX_EXAMPLE].hex() for message in messages)
                examples.setdefault((method.path, status), f"{details!r} for {sent}")
            progress.value += 1  # type: ignore[attr-defined]  # a multiprocessing.Value

    async def misframed(path: str, body: bytes) -> None:
        async with misframed_at_once:
            statuses[path + FRAMING, await _outcome(plan.target, path, body, [], FRAMING_SECONDS)] += 1
        progress.value += 1  # type: ignore[attr-defined]  # a multiprocessing.Value

    misframed_at_once = asyncio.Semaphore(MISFRAMED_AT_ONCE)
    async with (
        grpc.aio.insecure_channel(plan.target.address, options=CHANNEL_OPTIONS) as channel,
        asyncio.TaskGroup() as tasks,
    ):
        for _ in range(plan.in_flight):
            tasks.create_task(caller(channel))
    return FuzzResult(statuses=statuses, examples=examples)


async def _call(channel: grpc.aio.Channel, method: Method, message: bytes, compressed: bool) -> tuple[str, str]:
    """Make a call with one message and return the name of its status, and the details."""
    compression = grpc.Compression.Gzip if compressed else grpc.Compression.NoCompression
    try:
        if not method.is_endless:
            unary: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method.path)
            await unary(message, timeout=CALL_SECONDS, compression=compression)
            return "OK", ""
        streaming: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(method.path)
        call = streaming(message, timeout=CALL_SECONDS, compression=compression)
        async for _ in call:
            call.cancel()
            break
    except grpc.aio.AioRpcError as error:
        return error.code().name, error.details() or ""
    return "OK", ""


async def _stream(target: Target, method: Method, messages: Sequence[bytes], compressed: bool) -> str:
    """Make a call with a stream of messages and return the name of its status.

    Not by gRPC's client, which reports INTERNAL where the server ends the call before the client has sent all.
    """
    extra = [("grpc-encoding", "gzip")] if compressed else []
    flag = int(compressed)
    bodies = [grpc_message(gzip.compress(message) if compressed else message, flag=flag) for message in messages]
    return await _outcome(target, method.path, b"".join(bodies), extra)


def _misframe(message: bytes, rng: random.Random) -> bytes:
    """Return a message with a wrong prefix."""
    flag = rng.choice((0, 1, 2, 255))
    length = rng.choice((len(message), len(message) + 1, max(0, len(message) - 1), 0, 2**32 - 1))
    return grpc_message(message, flag=flag, length=length)


async def _outcome(
    target: Target, path: str, body: bytes, extra: Sequence[Header], seconds: float = CALL_SECONDS
) -> str:
    """Send a request on a connection of its own and return the name of its status."""
    try:
        async with asyncio.timeout(seconds), Connection.open(target.address) as connection:
            return await connection.outcome(await connection.request(path, body, extra))
    except TimeoutError:
        return "DEADLINE_EXCEEDED"
    except OSError:
        return CLOSED
