"""A gRPC server in this process that fails as a test requires, and records the calls."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from partedvae.v1 import service_pb2

SERVICE = service_pb2.DESCRIPTOR.services_by_name["PartedVAEService"]

Refusal = tuple[grpc.StatusCode, str, int | str | bytes | None]
"""Status, text, and the pushback in milliseconds, or the google.rpc.Status of the trailer grpc-status-details-bin."""


@dataclass
class FakeServer:
    """Fails the first calls but those of GetModel, then answers with empty messages."""

    refusals: list[Refusal]
    address: str = ""
    calls: int = 0
    times: list[float] = field(default_factory=list)
    """When the calls came, in seconds."""
    reply: Callable[[bytes, Any], bytes] = lambda _request, _context: b""
    """Answers a request, with its context, or fails it."""
    delay: float = 0.0
    """Seconds until a call that is not refused is answered, unless the server stops before."""
    stopped: threading.Event = field(default_factory=threading.Event)
    tokens: list[str] = field(default_factory=list)
    peers: set[str] = field(default_factory=set)
    """One address per connection that made calls."""
    server: Any = None
    """The server of grpc."""

    def answer_each(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        """Answer a stream, each of its messages with an empty one."""
        self.answer(b"", context)
        for _ in requests:
            yield b""

    def answer(self, request: bytes, context: Any) -> bytes:
        """Answer a call of any method."""
        self.calls += 1
        self.times.append(time.monotonic())
        self.peers.add(context.peer())
        self.tokens += [value for key, value in context.invocation_metadata() if key == "authorization"]
        if self.refusals:
            status, text, pushback = self.refusals.pop(0)
            if isinstance(pushback, bytes):
                context.set_trailing_metadata((("grpc-status-details-bin", pushback),))
            elif pushback is not None:
                context.set_trailing_metadata((("grpc-retry-pushback-ms", str(pushback)),))
            context.abort(status, text)
        self.stopped.wait(self.delay)
        return self.reply(request, context)


@contextmanager
def fake_server(
    *refusals: Refusal, address: str = "127.0.0.1:0", health: Any = None, streams: bool = False, threads: int = 2
) -> Iterator[FakeServer]:
    """Serve in the block.

    Args:
        refusals: failures of the first calls.
        address: where to listen; on a free port by default.
        health: servicer of grpc.health.v1; the server does not implement it by default.
        streams: whether all messages of a stream are answered; by default the first one ends it.
        threads: calls that are answered at the same time.
    """
    fake = FakeServer(list(refusals))
    handlers: dict[str, Any] = {
        method.name: grpc.unary_unary_rpc_method_handler(fake.answer) for method in SERVICE.methods
    }
    if streams:
        handlers["StreamFeatures"] = grpc.stream_stream_rpc_method_handler(fake.answer_each)
    # Clients ask for the model before they send images: it has no limits, as of an earlier server.
    handlers["GetModel"] = grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"")
    server = grpc.server(ThreadPoolExecutor(threads), options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE.full_name, handlers),))
    if health is not None:
        add_HealthServicer_to_server(health, server)
    fake.address = f"127.0.0.1:{server.add_insecure_port(address)}"
    server.start()
    fake.server = server
    try:
        yield fake
    finally:
        fake.stopped.set()
        server.stop(None).wait()
