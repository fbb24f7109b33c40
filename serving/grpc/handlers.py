"""Wraps the methods of services: limits and counts calls, reads and parses requests, maps errors to statuses.

gRPC would receive and parse the request of a unary call by itself, before anything can be checked. Here every method is
served as a stream of bytes, so that a call has its place and its memory before its request is read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Executor
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc

from partedvae.serving.errors import InvalidInputError
from partedvae.serving.grpc.call_policy import CallObserver, CallPolicy
from partedvae.serving.grpc.call_record import CallRecord, record_denied
from partedvae.serving.grpc.calls import Call, Context
from partedvae.serving.grpc.method import COPIES, Method
from partedvae.serving.grpc.request_limits import LARGE, is_compressed
from partedvae.serving.memory_budget import MemoryBudget
from partedvae.serving.request_memory import RequestMemory

CANCEL_SECONDS = 0.01
"""Time in which gRPC cancels a call whose client has gone, after its requests have ended."""

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


def policy_of(method: str, policies: Mapping[str, CallPolicy]) -> CallPolicy | None:
    """Return the policy of a method: that of the longest beginning of its full name, "/package.Service/"."""
    prefix = max((prefix for prefix in policies if method.startswith(prefix)), key=len, default=None)
    return None if prefix is None else policies[prefix]


def method_of(name: str, handler: Handler, policies: Mapping[str, CallPolicy]) -> Method:
    """Return the messages and limits of a method of generated code.

    Raises:
        ValueError: there is no policy for it.
    """
    policy = policy_of(name, policies)
    if policy is None:
        raise ValueError(f"no policy for {name}; policies: {sorted(policies)}")
    deserialize, serialize = handler.request_deserializer, handler.response_serializer
    assert deserialize is not None, "generated code has a deserializer for each method"
    assert serialize is not None, "generated code has a serializer for each method"
    return Method(name, deserialize, serialize, policy)


class CallHandlers(grpc.GenericRpcHandler):
    """The methods of services, wrapped. Generated code adds services to it as to a server, which gets it as a whole.

    Looking a method up here costs a call less than an interceptor, which runs in a coroutine of its own. Interceptors
    of the server see the statuses that are set here.
    """

    def __init__(self, policies: Mapping[str, CallPolicy], budget: MemoryBudget, executor: Executor) -> None:
        """Create a collection without methods.

        Args:
            policies: by the beginning of the method's full name, "/package.Service/"; the longest that fits applies.
            budget: the memory of the process.
            executor: threads that parse large messages.
        """
        self._policies = policies
        self._budget = budget
        self._executor = executor
        self._handlers: dict[str, Handler] = {}
        self._observers: dict[str, CallObserver | None] = {}

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Any) -> None:
        """Do nothing: generated code adds the same methods by `add_registered_method_handlers`."""

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Handler]) -> None:
        """Add the methods of a service.

        Args:
            service_name: full name, "package.Service".
            method_handlers: by the method's name.

        Raises:
            ValueError: there is no policy for a method.
        """
        for name, handler in method_handlers.items():
            method = method_of(f"/{service_name}/{name}", handler, self._policies)
            self._handlers[method.name] = _MethodHandler(method, handler, self._budget, self._executor).wrapped()
            self._observers[method.name] = method.policy.observer

    def record_denied(self, method: str) -> None:
        """Record a call that an interceptor has denied; calls of unknown methods are not recorded."""
        if method in self._observers:
            record_denied(method, self._observers[method])

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """Return the wrapped handler of a method; None for unknown methods."""
        return self._handlers.get(handler_call_details.method)


class _MethodHandler:
    """How gRPC's calls of one method are served."""

    def __init__(self, method: Method, handler: Handler, budget: MemoryBudget, executor: Executor) -> None:
        self._method = method
        self._handler = handler
        self._policy = method.policy
        self._budget = budget
        self._executor = executor

    def wrapped(self) -> Handler:
        """Return a handler that takes and returns bytes."""
        if self._handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(self._streaming)
        return grpc.stream_unary_rpc_method_handler(self._unary)

    async def _unary(self, _: Any, context: Context) -> bytes:
        policy, method = self._policy, self._method
        call = Call(context, policy.limiter, self._budget)
        record = CallRecord(method.name, policy.observer, context)
        respond: Any = self._handler.unary_unary
        try:
            if not call.try_acquire():
                await policy.limiter.reject(call.connection)
            # Nothing but the operation refers to the request, so that it is freed before its reply is sent.
            reply = await respond(await self._only_request(call, record), context)
            if method.can_serialize_here(reply, call.held):
                serialized = method.serialize(reply)
            else:
                serialized = await self._in_thread(method.serialize, reply)
            record.end("OK")
            call.begin_reply()
            if policy.is_done_when_answered:
                policy.limiter.dismiss(call)
            return serialized
        except BaseException as error:
            status = record.failed(error)
        # Outside of the handler, whose error refers to the frames of the call, and through them to its request.
        if status is not None:
            await call.abort(status)
        return b""  # gRPC sends nothing after a status.

    async def _streaming(self, _: Any, context: Context) -> None:
        call = Call(context, self._policy.limiter, self._budget, is_stream=self._handler.request_streaming)
        record = CallRecord(self._method.name, self._policy.observer, context)
        try:
            await self._write_replies(call, record, context)
            return
        except BaseException as error:
            status = record.failed(error)
        if status is not None:
            await call.abort(status)

    async def _write_replies(self, call: Call, record: CallRecord, context: Context) -> None:
        """Send the replies of a stream."""
        if not call.try_acquire():
            await self._policy.limiter.reject(call.connection)
        if self._handler.request_streaming:
            requests: Any = self._requests(call, record)
        else:
            requests = await self._only_request(call, record)
            call.watching_since = time.monotonic()
        respond: Any = self._handler.stream_stream or self._handler.unary_stream
        method = self._method
        async with aclosing(respond(requests, context)) as replies:
            async for reply in replies:
                if method.can_serialize_here(reply, call.held):
                    serialized = method.serialize(reply)
                else:
                    serialized = await self._in_thread(method.serialize, reply)
                await call.write(serialized)
        record.end("OK")

    async def _only_request(self, call: Call, record: CallRecord) -> Any:
        """Return the request of a call that has one."""
        raw = await call.read()
        if raw is grpc.aio.EOF:
            await asyncio.sleep(CANCEL_SECONDS)
            raise InvalidInputError("the call has no message; send one request")
        method = self._method
        size = method.check_size(raw)
        memory = call.begin_request()
        memory.reserve_message(COPIES * size)
        request = method.parse(raw) if method.is_small(raw) else await self._parsed(raw, size, memory)
        return record.count_images(request)

    async def _requests(self, call: Call, record: CallRecord) -> AsyncIterator[Any]:
        """Yield the requests of a stream."""
        while (request := await self._next_request(call)) is not None:
            yield record.count_images(request)
            del request  # It would stay in memory until the next one has arrived.

    async def _next_request(self, call: Call) -> Any:
        """Return the next request of a stream; None after the last."""
        raw = await call.read()
        if raw is grpc.aio.EOF:
            return None
        size = self._method.check_size(raw)
        memory = call.begin_request()
        await call.wait_for_message(memory, COPIES * size)
        return await self._parsed(raw, size, memory)

    async def _parsed(self, raw: bytes, size: int, memory: RequestMemory) -> Any:
        """Parse a message of at most `size` bytes, and return the memory that it does not need."""
        method = self._method
        if is_compressed(raw):
            raw = method.inflate(raw) if size < LARGE else await self._in_thread(method.inflate, raw)
            memory.give_back_message(COPIES * (size - len(raw)))
        if method.can_parse_here(raw):
            return method.parse(raw)
        return await self._in_thread(method.check_and_parse, raw)

    async def _in_thread(self, work: Callable[[Any], Any], argument: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, argument)
