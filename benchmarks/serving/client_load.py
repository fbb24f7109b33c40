"""Load by a gRPC client in this process, where h2load is not installed. It takes more of the processors than h2load."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import grpc

from benchmarks.serving.load import BenchmarkError, Load, Measured, Target, measured

UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1))
"""Large answers are allowed, and each channel has a connection of its own."""


def run(target: Target, load: Load) -> Measured:
    """Put a load on a server.

    Raises:
        BenchmarkError: a request failed.
    """
    return asyncio.run(_run(target, load))


async def _run(target: Target, load: Load) -> Measured:
    channels = [grpc.aio.insecure_channel(target.address, options=UNLIMITED) for _ in range(load.connections)]
    begin = time.perf_counter() + load.warm_up
    end = begin + load.seconds
    latencies: list[float] = []

    def asker(channel: grpc.aio.Channel) -> Callable[[float], Awaitable[None]]:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(target.path)

        async def ask(due: float) -> None:
            answer = await call(target.message)
            if len(answer) != target.answer_bytes:
                raise BenchmarkError(f"an answer of {len(answer)} bytes came, right ones have {target.answer_bytes}")
            now = time.perf_counter()
            if begin < now <= end:
                latencies.append(1000 * (now - due))

        return ask

    try:
        send = _closed if load.rate is None else _paced
        await asyncio.gather(*(send(asker(channel), load, end) for channel in channels))
    except grpc.RpcError as error:
        raise BenchmarkError(f"a request to {target.address}{target.path} failed: {error.code().name}") from error
    finally:
        await asyncio.gather(*(channel.close() for channel in channels))
    return measured(target, load, latencies)


async def _closed(ask: Callable[[float], Awaitable[None]], load: Load, end: float) -> None:
    """Send the next as soon as one is answered."""

    async def caller() -> None:
        while (now := time.perf_counter()) < end:
            await ask(now)

    await asyncio.gather(*(caller() for _ in range(load.streams)))


async def _paced(ask: Callable[[float], Awaitable[None]], load: Load, end: float) -> None:
    """Send evenly, whether or not others were answered; each one's time counts from when it was due."""
    assert load.rate is not None
    due, tasks = time.perf_counter(), []
    while due < end:
        await asyncio.sleep(due - time.perf_counter())
        tasks.append(asyncio.ensure_future(ask(due)))
        due += load.connections / load.rate
    await asyncio.gather(*tasks)
