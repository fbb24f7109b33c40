"""The front of the package pygrpc-native, which does HTTP/2 and gRPC's framing in threads without the interpreter.

A thread takes whatever calls have arrived, all at once, and runs each until it waits for a batch; the batch's own
thread continues them, and hands over their replies. Unary methods are served so. All others (streams, Watch,
reflection) are served by gRPC's server behind it, on a Unix socket.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import grpc
from pygrpc_native import EVENT_CANCEL, NativeGrpcFront

from partedvae.serving.batching.scheduler import SessionScheduler
from partedvae.serving.config.addresses import cannot_listen, check_free, split_address
from partedvae.serving.config.serve_config import FrontName, ServeConfig
from partedvae.serving.errors import ConfigError
from partedvae.serving.grpc.call_policy import CallPolicy
from partedvae.serving.grpc.call_record import CallRecord, record_denied
from partedvae.serving.grpc.errors import INTERNAL_TEXT
from partedvae.serving.grpc.front import AddServices, Front
from partedvae.serving.grpc.grpcio_front import KEEPALIVE_MS, KEEPALIVE_TIMEOUT_MS, max_streams
from partedvae.serving.grpc.handlers import method_of
from partedvae.serving.grpc.method import COPIES
from partedvae.serving.grpc.native.call import INTERNAL, Details, Joined, NativeCall, NativeMethod, Respond
from partedvae.serving.grpc.native.group import NativeGroup
from partedvae.serving.grpc.native.traffic import NativeTraffic
from partedvae.serving.grpc.request_limits import LARGE
from partedvae.serving.grpc.security import TokenFile
from partedvae.serving.memory_budget import MemoryBudget

logger = logging.getLogger(__name__)

BURST = 64
"""Most calls that are taken at once: as many as the largest batch has by default."""
MAX_SOCKET_PATH = 107
"""Bytes of the path of a Unix socket, at most, on Linux; three less on macOS."""
RETRY_SECONDS = 0.1
"""Time after which calls are taken again when that has failed."""
LAST_REPLIES_SECONDS = 2.0
"""Time for the last replies when the server stops."""
UNAUTHENTICATED: int = grpc.StatusCode.UNAUTHENTICATED.value[0]


class _Collector:
    """Takes the place of a server where services are added, and keeps their unary methods."""

    def __init__(self) -> None:
        self.handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Do nothing: generated code adds the same methods by name, and others are not unary."""

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """Keep the unary methods of a service."""
        for name, handler in handlers.items():
            if not (handler.request_streaming or handler.response_streaming):
                self.handlers[f"/{service}/{name}"] = handler


class NativeFront:
    """The native server in front of gRPC's. Create it in a running event loop."""

    name: FrontName = "native"

    def __init__(
        self,
        config: ServeConfig,
        add_services: AddServices,
        policies: Mapping[str, CallPolicy],
        fallback: Callable[[str], Front],
        budget: MemoryBudget,
        executor: Executor,
        scheduler: SessionScheduler,
        joined: Mapping[str, Joined],
        *,
        tokens: TokenFile | None = None,
        shared_port: bool = False,
    ) -> None:
        """Create a server.

        Args:
            config: address and limits.
            add_services: adds the services.
            policies: as for `CallHandlers`.
            fallback: creates the server behind it, given the path of a Unix socket.
            budget: the memory of the process.
            executor: threads that parse large messages.
            scheduler: runs the batches.
            joined: answers requests of a method together, by its full name.
            tokens: tokens that clients must send; None for no authentication.
            shared_port: whether other worker processes listen on the same port.
        """
        collector = _Collector()
        add_services(collector)
        self._config = config
        self._budget = budget
        self._executor = executor
        self._scheduler = scheduler
        self._tokens = tokens
        self._shared_port = shared_port
        self._fallback = fallback
        # Making them into objects costs as much as parsing a request.
        self._needs_details = tokens is not None or any(
            CallRecord.is_needed(policy.observer) for policy in policies.values()
        )
        self._loop = asyncio.get_running_loop()
        self._stack = ExitStack()
        self._calls: dict[int, NativeCall] = {}
        self._methods = [
            NativeMethod(method_of(name, handler, policies), cast(Respond, handler.unary_unary), joined.get(name))
            for name, handler in collector.handlers.items()
        ]
        self._front: NativeGrpcFront
        self._behind: Front
        self._traffic: NativeTraffic

    async def start(self) -> str:
        """Listen and accept calls; see `Front`.

        Raises:
            AddressError: the address is in use, or not an address of this machine.
            ConfigError: the socket of the server behind this one cannot be made.
        """
        config = self._config
        host, _ = split_address(config.address)
        if not self._shared_port:
            check_free(config.address)
        try:
            self._front = NativeGrpcFront(
                config.address,
                [(served.method.name, False) for served in self._methods],
                call_details=True,  # Without, it does not report calls that are cancelled.
                keepalive_time_ms=KEEPALIVE_MS,
                keepalive_timeout_ms=KEEPALIVE_TIMEOUT_MS,
                max_concurrent_streams=max_streams(config),
                reuse_port=self._shared_port,
            )
        except OSError as error:
            raise cannot_listen(config.address, error.strerror or str(error)) from error
        self._traffic = NativeTraffic(self._front.bound_port, lambda: self._budget.messages.waited_for // COPIES)
        self._front.set_fallback(await self._start_behind())
        self._front.start()
        threading.Thread(target=self._receive, name="partedvae-receiver", daemon=True).start()
        return f"{host}:{self._front.bound_port}"

    async def stop(self, grace: float) -> None:
        """End all connections; see `Front`."""
        await self._behind.stop(grace)
        for call in list(self._calls.values()):
            if call.is_admitted:
                call.cancel()
        end = self._loop.time() + LAST_REPLIES_SECONDS
        while self._calls and self._loop.time() < end:
            await asyncio.sleep(0.01)
        await self._loop.run_in_executor(None, self._front.close)
        self._stack.close()

    async def _start_behind(self) -> str:
        """Start the server behind this one, and return the path of its socket."""
        try:
            folder = self._stack.enter_context(TemporaryDirectory(prefix="partedvae-"))
            socket = str(Path(folder, "grpcio.sock"))
            self._behind = self._fallback(socket)
            await self._behind.start()
        except (OSError, RuntimeError) as error:  # gRPC does not say why it cannot bind a socket.
            raise ConfigError(
                f"--front native needs a Unix socket in the temporary folder, which cannot be made ({error}); set "
                f"TMPDIR to a folder that can be written to, whose path is short: that of a socket has at most "
                f"{MAX_SOCKET_PATH} bytes"
            ) from error
        return socket

    def watch_memory(self, excess: int, most: int) -> int:
        """End the connections that hold most, on Linux; see `Front`."""
        return self._traffic.watch_memory(excess, most)

    def held_memory(self) -> int:
        """Estimate what connections hold, on Linux; see `Front`."""
        return self._traffic.held

    def _receive(self) -> None:
        """Take calls until the front is closed."""
        while True:
            try:
                events = self._next_events()
                if events is None:
                    return
                self._take(events)
                del events
            except BaseException:  # Such as a lack of memory, or a panic of the package: no other thread takes calls.
                logger.exception("calls could not be taken")
                time.sleep(RETRY_SECONDS)

    def _take(self, events: Sequence[tuple[Any, ...]]) -> None:
        """Begin the calls that have arrived, and cancel those whose clients have gone."""
        groups: dict[Hashable, NativeGroup] = {}
        waiting: list[Any] = []
        for kind, number, method, message, peer, *details in events:
            if kind == EVENT_CANCEL:
                if (call := self._calls.get(number)) is not None:
                    call.cancel()
                continue
            try:
                awaited = self._begin(
                    number, self._methods[method], message or b"", peer, details[0] if details else None, groups
                )
            except Exception:  # The other calls must be served.
                logger.exception("a call failed")
                self._front.fail(number, INTERNAL, INTERNAL_TEXT)
                if (call := self._calls.get(number)) is not None:
                    call.end()
            else:
                if awaited is not None:
                    waiting.append(awaited)
        for group in groups.values():
            awaited = group.begin_answer()
            if awaited is not None:
                waiting.append(awaited)
        if waiting:
            self._scheduler.submit(waiting)

    def _next_events(self) -> Sequence[tuple[Any, ...]] | None:
        """Wait for calls, and return all that have arrived, at most `BURST`; None when the front is closed."""
        if self._needs_details:
            return self._front.recv_batch_details(BURST)
        return self._front.recv_batch(BURST)

    def _begin(
        self,
        number: int,
        served: NativeMethod,
        message: bytes,
        peer: str,
        details: Details | None,
        groups: dict[Hashable, NativeGroup],
    ) -> Any:
        """Begin a call, or add it to a group.

        Returns:
            The rows that it waits for; None if it has ended, is in a group, or continues on the event loop.
        """
        method = served.method
        client = self._traffic.client(peer)
        client.calls += 1
        client.received += len(message)
        if self._tokens is not None:
            denial = self._tokens.denial(method.name, () if details is None else details[0])
            if denial:
                record_denied(method.name, method.policy.observer)
                self._front.fail(number, UNAUTHENTICATED, denial)
                return None
        call = NativeCall(
            self._front, served, self._calls, number, client, details, self._budget, self._executor, self._loop
        )
        call.is_admitted = method.policy.limiter.try_acquire(call)
        joined = served.joined if call.is_admitted and len(message) < LARGE else None
        if joined is not None and (found := joined.split(message)) is not None:
            kind, part = found
            group = groups.get((served, kind))
            full = None
            if group is None or len(group.calls) >= self._config.max_images:
                full, group = group, NativeGroup(method, joined, kind, self._budget, self._loop)
                groups[served, kind] = group
            group.add(call, message, part)
            return None if full is None else full.begin_answer()
        return call.begin(call.answer(message))
