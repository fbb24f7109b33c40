"""Load generator in Python, used where h2load is not installed. It needs more processor time than h2load."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import grpc

from benchmarks.serving.load import BenchmarkError, Load, Measurement, Target, summarize

CHANNEL_OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1))
"""No limit on the size of replies, and one connection per channel."""


def run(target: Target, load: Load) -> Measurement:
    """Run a load.

    Raises:
        BenchmarkError: a request failed.
    """
    return asyncio.run(_run(target, load))


async def _run(target: Target, load: Load) -> Measurement:
    channels = [grpc.aio.insecure_channel(target.address, options=CHANNEL_OPTIONS) for _ in range(load.connections)]
    begin = time.perf_counter() + load.warm_up
    end = begin + load.seconds
    latencies: list[float] = []

    def sender(channel: grpc.aio.Channel) -> Callable[[], Awaitable[None]]:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(target.path)

        async def send_request() -> None:
            started = time.perf_counter()
            response = await call(target.message)
            if len(response) != target.response_bytes:
                raise BenchmarkError(f"a response has {len(response)} bytes, expected {target.response_bytes}")
            now = time.perf_counter()
            if begin < now <= end:
                latencies.append(1000 * (now - started))

        return send_request

    try:
        await asyncio.gather(*(_closed_loop(sender(channel), load, end) for channel in channels))
    except grpc.RpcError as error:
        raise BenchmarkError(f"a request to {target.address}{target.path} failed: {error.code().name}") from error
    finally:
        await asyncio.gather(*(channel.close() for channel in channels))
    return summarize(target, load, latencies)


async def _closed_loop(send_request: Callable[[], Awaitable[None]], load: Load, end: float) -> None:
    """Send the next request as soon as the previous one has completed."""

    async def caller() -> None:
        while time.perf_counter() < end:
            await send_request()

    await asyncio.gather(*(caller() for _ in range(load.streams)))
