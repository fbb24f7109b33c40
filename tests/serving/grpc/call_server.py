"""A gRPC server with given handlers behind the limiter, the memory budget and the guard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from partedvae.serving.grpc.call_policy import CallPolicy
from partedvae.serving.grpc.calls import Call
from partedvae.serving.grpc.guard import Guard
from partedvae.serving.grpc.handlers import CallHandlers
from partedvae.serving.grpc.limiter import CallLimiter
from partedvae.serving.memory_budget import MIB, MemoryBudget
from partedvae.v1 import service_pb2 as pb

SERVICE = "partedvae.v1.PartedVAEService"
UNARY = f"/{SERVICE}/Classify"
STREAM = f"/{SERVICE}/StreamFeatures"
WATCH = f"/{SERVICE}/Watch"

Unary = Callable[[pb.ClassifyRequest, Any], Awaitable[pb.ClassifyResponse]]
Stream = Callable[[AsyncIterator[pb.StreamFeaturesRequest], Any], AsyncIterator[pb.StreamFeaturesResponse]]
Watch = Callable[[pb.ClassifyRequest, Any], AsyncIterator[pb.ClassifyResponse]]


async def reply_at_once(request: pb.ClassifyRequest, context: Any) -> pb.ClassifyResponse:
    """Return an empty reply."""
    return pb.ClassifyResponse()


async def reply_to_each(
    requests: AsyncIterator[pb.StreamFeaturesRequest], context: Any
) -> AsyncIterator[pb.StreamFeaturesResponse]:
    """Return an empty reply to each request."""
    async for _ in requests:
        yield pb.StreamFeaturesResponse()


async def watch_for_ever(request: pb.ClassifyRequest, context: Any) -> AsyncIterator[pb.ClassifyResponse]:
    """Reply once, and wait for a change that does not come."""
    yield pb.ClassifyResponse()
    await asyncio.Event().wait()


@dataclass(frozen=True)
class CallServer:
    """A running server."""

    port: int
    limiter: CallLimiter[Call]
    budget: MemoryBudget

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    @property
    def is_idle(self) -> bool:
        """Whether no call is active, and nothing is reserved."""
        return not (self.limiter.active_calls or self.budget.messages.reserved or self.budget.work.reserved)


@asynccontextmanager
async def running(
    unary: Unary = reply_at_once,
    stream: Stream = reply_to_each,
    watch: Watch = watch_for_ever,
    *,
    max_calls: int = 100,
    transfer_seconds: float = 3600,
    idle_seconds: float = 3600,
    memory: int = 1024 * MIB,
    max_message_bytes: int = 16 * MIB,
) -> AsyncIterator[CallServer]:
    """Serve within the block."""
    executor = ThreadPoolExecutor(2)
    limiter: CallLimiter[Call] = CallLimiter(max_calls)
    budget = MemoryBudget(memory)
    policy = CallPolicy(limiter=limiter, max_message_bytes=max_message_bytes, max_images=100)
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.per_message_decompression", 0),
            ("grpc.max_concurrent_streams", 1000),
        ],
    )
    unary_types: Any = (pb.ClassifyRequest.FromString, pb.ClassifyResponse.SerializeToString)
    stream_types: Any = (pb.StreamFeaturesRequest.FromString, pb.StreamFeaturesResponse.SerializeToString)
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Classify": grpc.unary_unary_rpc_method_handler(unary, *unary_types),
        "StreamFeatures": grpc.stream_stream_rpc_method_handler(stream, *stream_types),
        "Watch": grpc.unary_stream_rpc_method_handler(watch, *unary_types),
    }
    wrapped = CallHandlers({f"/{SERVICE}/": policy}, budget, executor)
    wrapped.add_registered_method_handlers(SERVICE, handlers)
    server.add_generic_rpc_handlers([wrapped])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    guard = Guard([limiter], budget, transfer_seconds=transfer_seconds, idle_seconds=idle_seconds)
    watching = asyncio.create_task(guard.run())
    try:
        yield CallServer(port, limiter, budget)
    finally:
        watching.cancel()
        await server.stop(None)
        executor.shutdown()
