"""Runs the gRPC server: listens, serves until it has to stop, then drains active calls."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.reflection_pb2_grpc import add_ServerReflectionServicer_to_server

from partedvae.common.allocator import keep_freed_blocks
from partedvae.common.cpus import available_cpus
from partedvae.oip import inference_pb2
from partedvae.oip.inference_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from partedvae.serving.batching.model import BatchedModels
from partedvae.serving.batching.scheduler import BatchPolicy
from partedvae.serving.config.addresses import is_loopback
from partedvae.serving.config.serve_config import ServeConfig
from partedvae.serving.decoding.plan import largest_image
from partedvae.serving.decoding.pool import DecodePool
from partedvae.serving.grpc.call_policy import CallPolicy
from partedvae.serving.grpc.calls import Call
from partedvae.serving.grpc.front import Front, chosen_front
from partedvae.serving.grpc.grpcio_front import GrpcioFront
from partedvae.serving.grpc.guard import Guard
from partedvae.serving.grpc.handlers import CallHandlers
from partedvae.serving.grpc.health import Health
from partedvae.serving.grpc.limiter import CallLimiter
from partedvae.serving.grpc.oip.servicer import OpenInferenceServicer
from partedvae.serving.grpc.security import TokenAuthInterceptor, TokenFile
from partedvae.serving.grpc.service_context import ServiceContext
from partedvae.serving.grpc.servicer import PartedVAEServicer
from partedvae.serving.images import ImageLimits
from partedvae.serving.memory_budget import MIB, MemoryBudget
from partedvae.serving.repository.repository import ModelRepository
from partedvae.v1 import service_pb2
from partedvae.v1.service_pb2_grpc import add_PartedVAEServiceServicer_to_server

if TYPE_CHECKING:
    from partedvae.serving.metrics.metrics import Metrics

logger = logging.getLogger(__name__)

SERVICE = service_pb2.DESCRIPTOR.services_by_name["PartedVAEService"].full_name
OPEN_INFERENCE = inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
HEALTH = "grpc.health.v1.Health"
SERVICES = (SERVICE, OPEN_INFERENCE)

KEPT_BELOW = MIB
"""Freed blocks from this size on, in bytes, are returned to the system: large messages would otherwise be kept."""
MAX_CONTROL_BYTES = 4096
"""Largest request of health checks and reflection."""
MAX_HEALTH_CHECKS = 64
"""Concurrent health checks, which take no time."""
MIN_WATCHERS = 1024
"""Concurrent Watch calls, if `max_concurrent_calls` is not more: each client keeps one open."""
MAX_WATCHERS = 8
"""Concurrent Watch calls of one connection; a client needs one."""
MAX_REFLECTIONS = 32
"""Concurrent calls of reflection."""


async def serve_until_stopped(
    config: ServeConfig,
    repository: ModelRepository,
    on_ready: Callable[[str], None],
    stop: asyncio.Event,
    *,
    shared_port: bool = False,
    metrics: Metrics | None = None,
) -> None:
    """Serve until an event is set, then finish active calls.

    Args:
        config: address and limits.
        repository: the models to serve.
        on_ready: called once, with the bound address, when the server accepts calls.
        stop: set when the server has to stop.
        shared_port: whether other worker processes listen on the same port.
        metrics: receives the events of calls and batches; None disables metrics.

    Raises:
        AddressError: the address is malformed, in use, or not an address of this machine.
        SecurityError: a certificate, a key or the token file cannot be used.
        ConfigError: tracing is enabled, and its extra is not installed.
    """
    loop = asyncio.get_running_loop()
    keep_freed_blocks(KEPT_BELOW)
    health = Health(SERVICES, repository.can_answer)
    budget = MemoryBudget(config.memory_bytes)
    on_evicted = None if metrics is None else lambda: metrics.call_evicted("place")
    limiter: CallLimiter[Call] = CallLimiter(config.max_concurrent_calls, on_evicted=on_evicted)
    if metrics is not None:
        metrics.memory_budget(budget.limit)
    front_name = chosen_front(config)
    policies = _policies(config, limiter, metrics)
    limits = _image_limits(config, budget)
    policy = BatchPolicy(
        max_batch_rows=config.max_batch_rows,
        max_queue_rows=config.max_queue_rows,
        max_delay=config.max_queue_delay_ms / 1000,
        # One thread per session: several small concurrent runs use the CPUs better than one run on several threads.
        sessions=config.threads_each,
    )
    async with AsyncExitStack() as stack:
        # More threads than CPUs, so that a small request does not wait for an earlier large one.
        executor = ThreadPoolExecutor(max(4, 2 * available_cpus()), thread_name_prefix="partedvae-worker")
        # What still runs there is bounded, and nobody waits for it any more.
        stack.callback(executor.shutdown, wait=False, cancel_futures=True)
        models = BatchedModels(policy, metrics)
        stack.callback(models.close)
        # At least two processes, so that a slow file does not keep all others waiting.
        decode_pool = DecodePool(executor, limits, max(2, config.threads_each))
        stack.push_async_callback(decode_pool.close)
        service_context = ServiceContext(
            repository, models, executor, decode_pool, limits, config.max_message_bytes, front_name
        )
        servicer = PartedVAEServicer(service_context)
        open_inference = OpenInferenceServicer(service_context, health.is_ready)

        def add_services(server: Any) -> None:
            add_PartedVAEServiceServicer_to_server(servicer, server)
            add_GRPCInferenceServiceServicer_to_server(open_inference, server)
            add_HealthServicer_to_server(health, server)
            if config.reflection:
                reflector = reflection.aio.ReflectionServicer([*SERVICES, HEALTH, reflection.SERVICE_NAME])
                add_ServerReflectionServicer_to_server(reflector, server)

        tokens = _tokens(config)
        handlers = CallHandlers(policies, budget, executor)
        add_services(handlers)
        interceptors = _interceptors(config, stack, tokens, handlers.record_denied)
        front: Front
        if front_name == "native":
            from partedvae.serving.grpc.native.front import NativeFront
            from partedvae.serving.grpc.native.joined_features import JoinedFeatures

            front = NativeFront(
                config,
                add_services,
                policies,
                lambda socket: GrpcioFront(config, handlers, interceptors, unix_socket=socket),
                budget,
                executor,
                models.scheduler,
                {f"/{SERVICE}/ExtractFeatures": JoinedFeatures(service_context)},
                tokens=tokens,
                shared_port=shared_port,
            )
        else:
            front = GrpcioFront(config, handlers, interceptors, shared_port=shared_port)
        address = await front.start()
        guard = Guard(
            list(dict.fromkeys(policy.limiter for policy in policies.values())),
            budget,
            transfer_seconds=config.transfer_seconds,
            idle_seconds=config.idle_seconds,
            models_memory=repository.memory_of_loaded,
            watch_memory=front.watch_memory,
            held_memory=front.held_memory,
            observer=metrics,
        )
        for watching in (guard.run(), health.run()):
            stack.callback(loop.create_task(watching).cancel)
        # What exists now stays: the garbage collector need not look at it again, which would hold the event loop.
        gc.collect()
        gc.freeze()
        on_ready(address)
        await stop.wait()
        logger.info("stopping: waiting up to %g s for active calls", config.grace_seconds)
        health.stop()
        limiter.close()
        servicer.stop()
        began = loop.time()
        await limiter.drain(config.grace_seconds)
        left = max(0.0, config.grace_seconds - (loop.time() - began))
        await asyncio.gather(front.stop(left), limiter.release_held())


def _policies(config: ServeConfig, limiter: CallLimiter[Call], observer: Metrics | None) -> dict[str, CallPolicy]:
    """Return the limits of each service. Health checks and reflection have a share of their own."""
    policies = {
        f"/{service}/": CallPolicy(
            limiter=limiter,
            max_message_bytes=config.max_message_bytes,
            max_images=config.max_images,
            observer=observer,
        )
        for service in SERVICES
    }
    watchers = CallLimiter[Call](
        max(MIN_WATCHERS, config.max_concurrent_calls),
        per_connection=MAX_WATCHERS,
        patience_seconds=0.0,
    )
    for method, own in (
        # A probe takes the place of an older one, which has been answered long ago if it was complete.
        (f"/{HEALTH}/", CallLimiter[Call](MAX_HEALTH_CHECKS, patience_seconds=0.0)),
        (f"/{HEALTH}/Watch", watchers),
        ("/grpc.reflection.", CallLimiter[Call](MAX_REFLECTIONS, patience_seconds=0.0)),
    ):
        policies[method] = CallPolicy(limiter=own, max_message_bytes=MAX_CONTROL_BYTES, is_done_when_answered=True)
    return policies


def _image_limits(config: ServeConfig, budget: MemoryBudget) -> ImageLimits:
    """Return the limits of images, of which one must fit into the memory."""
    most = largest_image(budget.work.limit, config.max_message_bytes)
    if most < config.max_pixels:
        logger.info("images may have %d pixels, which is what --memory-mb %d allows", most, budget.limit // MIB)
    return ImageLimits(
        max_images=config.max_images,
        max_pixels=min(most, config.max_pixels),
        max_request_pixels=config.max_request_pixels,
        max_seconds=config.max_decode_seconds,
    )


def _tokens(config: ServeConfig) -> TokenFile | None:
    """Return the tokens that clients must send; None for no authentication."""
    if config.token_file is None:
        return None
    tokens = TokenFile(config.token_file)
    if config.tls_cert is None and not is_loopback(config.address):
        logger.warning(
            "tokens are sent to %s in plain text; pass --tls-cert and --tls-key, unless a proxy in front of the "
            "server terminates TLS",
            config.address,
        )
    return tokens


def _interceptors(
    config: ServeConfig, stack: AsyncExitStack, tokens: TokenFile | None, on_denied: Callable[[str], None]
) -> Sequence[grpc.aio.ServerInterceptor]:
    """Return the optional interceptors that are enabled, outermost first."""
    interceptors: list[grpc.aio.ServerInterceptor] = []
    if config.otel:
        from partedvae.serving.grpc.tracing import tracing

        interceptors += stack.enter_context(tracing())
    if tokens is not None:
        interceptors.append(TokenAuthInterceptor(tokens, on_denied))
    return interceptors
