"""The server's life: listen, say so, answer until a signal, finish the work in hand, end."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from grpc_reflection.v1alpha import reflection

from partedvae.v1 import service_pb2
from partedvae.v1.service_pb2_grpc import add_PartedVAEServiceServicer_to_server
from serving.batched import BatchedModels
from serving.batcher import BatchPolicy
from serving.cpus import available_cpus
from serving.errors import AddressError
from serving.images import DEFAULT_LIMITS, ImageLimits
from serving.repository import ModelRepository
from serving.rpc.health import Health
from serving.rpc.interceptors import ErrorInterceptor
from serving.rpc.servicer import PartedVAEServicer

logger = logging.getLogger(__name__)

SERVICE = service_pb2.DESCRIPTOR.services_by_name["PartedVAEService"].full_name
HEALTH = "grpc.health.v1.Health"


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How to listen and what to refuse."""

    address: str = "127.0.0.1:50051"
    """HOST:PORT; port 0 takes a free one."""
    max_message_bytes: int = 64 * 1024 * 1024
    """Largest request; gRPC refuses larger ones with RESOURCE_EXHAUSTED."""
    limits: ImageLimits = DEFAULT_LIMITS
    """Limits of the images in a request."""
    batching: BatchPolicy = field(default_factory=BatchPolicy)
    """How requests are gathered; `sessions` with one thread each serve the processors best."""
    grace_seconds: float = 20.0
    """How long work in hand may take after a signal to stop."""


async def serve_until_stopped(
    repository: ModelRepository, options: ServerOptions, on_ready: Callable[[str], None]
) -> None:
    """Serve until SIGTERM or SIGINT, then finish the work in hand. A second signal ends the process at once.

    Args:
        repository: the models.
        options: how to listen and what to refuse.
        on_ready: called once with the real address when the server answers.

    Raises:
        AddressError: the address is malformed, taken, or not this machine's.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    health = Health(["", SERVICE])
    # More workers than processors: a small request need not wait for a large one that came first.
    with ThreadPoolExecutor(max(4, 2 * available_cpus()), thread_name_prefix="partedvae-worker") as executor:
        server = grpc.aio.server(
            interceptors=[ErrorInterceptor(SERVICE)],
            options=[
                ("grpc.max_receive_message_length", options.max_message_bytes),
                ("grpc.max_send_message_length", -1),  # The servicer refuses what would not fit, with a remedy.
                ("grpc.so_reuseport", 0),  # Two servers on one port by mistake would share the requests silently.
            ],
        )
        models = BatchedModels(options.batching)
        servicer = PartedVAEServicer(repository, models, executor, options.limits, options.max_message_bytes)
        add_PartedVAEServiceServicer_to_server(servicer, server)
        add_HealthServicer_to_server(health, server)
        reflection.enable_server_reflection([SERVICE, HEALTH, reflection.SERVICE_NAME], server)
        address = _listen(server, options.address)
        await server.start()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, stop.set)
        on_ready(address)
        await stop.wait()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(signum)
            signal.signal(signum, signal.SIG_DFL)  # Python's own answer to SIGINT would wait for the workers.
        logger.info("stopping: finishing the work in hand, %g s at most", options.grace_seconds)
        health.stop()
        servicer.stop()
        await server.stop(options.grace_seconds)
        models.close()
        executor.shutdown(wait=False, cancel_futures=True)


def _listen(server: grpc.aio.Server, address: str) -> str:
    """Bind the address and return it with the real port."""
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\s:\[\]]+):(\d{1,5})", address)
    if match is None or int(match[2]) > 65535:
        raise AddressError(
            f"the address {address!r} is not HOST:PORT; write it like 127.0.0.1:50051, or [::1]:50051 for IPv6"
        )
    host, port = match[1], int(match[2])
    # Tried with a plain socket first, because gRPC does not tell why it could not bind.
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
            probe.listen()
        return f"{host}:{server.add_insecure_port(address)}"
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise AddressError(
            f"cannot listen on {address}: {reason}; choose another --address, or stop what listens there"
        ) from error
