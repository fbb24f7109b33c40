"""Wraps every call of the server's own services: parses requests, limits and counts calls, maps errors to statuses."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Protocol, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from partedvae.serving.config.logging import FIELDS
from partedvae.serving.errors import InvalidInputError, MessageTooLargeError
from partedvae.serving.grpc.errors import to_status
from partedvae.serving.grpc.image_counts import image_count
from partedvae.serving.grpc.limiter import CallLimiter

logger = logging.getLogger(__name__)

MAX_REQUEST_ID = 128
"""Characters of a request's id that are logged."""

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class CallObserver(Protocol):
    """Receives the events of calls, for metrics. Called from the event loop's thread."""

    def rpc_started(self) -> None:
        """Record that a call started; `rpc_done` follows."""

    def rpc_done(self, method: str, code: str, seconds: float, images: int) -> None:
        """Record that a call ended.

        Args:
            method: name of the method without its service, "ExtractFeatures".
            code: name of the status, "OK".
            seconds: duration of the call.
            images: images that were sent or asked for; 0 unless the call succeeded.
        """


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the calls of the given services; calls of other services (health, reflection) pass unchanged.

    It must be the innermost interceptor (the last of the server's list), so that the others see the statuses that it
    sets. Each method's handler is requested from the server once and cached.
    """

    def __init__(
        self,
        *services: str,
        limiter: CallLimiter,
        max_message_bytes: int = 64 * 1024 * 1024,
        observer: CallObserver | None = None,
    ) -> None:
        """Create an interceptor for some services.

        Args:
            services: full names of the services.
            limiter: limit of concurrent calls.
            max_message_bytes: maximum size of a request. gRPC's own limit must be higher: the message of its error
                names no remedy.
            observer: receives the events of calls.
        """
        self._prefixes = tuple(f"/{service}/" for service in services)
        self.limiter = limiter
        self._max_message_bytes = max_message_bytes
        self.observer = observer
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return the wrapped handler of a method."""
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is not None:
            return wrapped
        handler = await continuation(handler_call_details)
        if handler is None or not method.startswith(self._prefixes):
            return handler
        self._wrapped[method] = wrapped = self._wrap(method, handler)
        return wrapped

    def _wrap(self, method: str, handler: Handler) -> Handler:
        """Return a handler that accepts raw bytes and parses them itself: gRPC reports malformed bytes as INTERNAL."""
        deserialize = handler.request_deserializer
        assert deserialize is not None, "generated code has a deserializer for each method"
        max_bytes = self._max_message_bytes

        def parse(raw: bytes) -> Any:
            if len(raw) > max_bytes:
                raise MessageTooLargeError(
                    f"the request has {len(raw):,} bytes, above the limit of {max_bytes:,}; send fewer images per "
                    "request, or start the server with a larger --max-message-mb"
                )
            try:
                return deserialize(raw)
            except DecodeError as error:
                raise InvalidInputError(
                    f"the bytes are not a request of {method}: {error}; are client and server of the same version?"
                ) from error

        if not handler.request_streaming and not handler.response_streaming:
            respond: Callable[[Any, Context], Awaitable[Any]] = handler.unary_unary  # type: ignore[assignment]  # of aio

            async def unary(raw: bytes, context: Context) -> Any:
                async with _Call(self, method, context) as call:
                    return await respond(call.count_images(parse(raw)), context)

            return grpc.unary_unary_rpc_method_handler(unary, response_serializer=handler.response_serializer)

        respond_each: Callable[[AsyncIterator[Any], Context], Awaitable[None]] = handler.stream_stream  # type: ignore[assignment]  # of aio
        assert inspect.iscoroutinefunction(respond_each), f"{method} must read and write its own stream"

        async def parse_each(raws: AsyncIterator[bytes], call: _Call) -> AsyncIterator[Any]:
            async for raw in raws:
                yield call.count_images(parse(raw))

        async def streaming(raws: AsyncIterator[bytes], context: Context) -> None:
            async with _Call(self, method, context) as call:
                await respond_each(parse_each(raws, call), context)

        return grpc.stream_stream_rpc_method_handler(streaming, response_serializer=handler.response_serializer)


class _Call:
    """One call, from its arrival to its end."""

    __slots__ = ("_admitted", "_context", "_images", "_interceptor", "_method", "_observed", "_started")

    def __init__(self, interceptor: CallInterceptor, method: str, context: Context) -> None:
        self._interceptor = interceptor
        self._method = method
        self._context = context
        self._started = time.perf_counter()
        self._admitted = interceptor.limiter.try_acquire()
        self._observed = interceptor.observer is not None or logger.isEnabledFor(logging.DEBUG)
        self._images = 0

    def count_images(self, request: Any) -> Any:
        """Add the images of a request to the call's count, if anything records it, and return the request."""
        if self._observed:
            self._images += image_count(request)
        return request

    async def __aenter__(self) -> _Call:
        interceptor = self._interceptor
        if interceptor.observer is not None:
            interceptor.observer.rpc_started()
        if not self._admitted:
            try:
                await interceptor.limiter.reject()
            except BaseException as error:
                await self.__aexit__(type(error), error, None)
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self._end("OK")
            return
        if isinstance(error, grpc.aio.AbortError):  # The servicer has set the status.
            self._end(_name_of(self._context.code()))
            return
        if not isinstance(error, Exception):  # Cancelled by the client or its deadline: gRPC sets the status.
            remaining = self._context.time_remaining()
            self._end("DEADLINE_EXCEEDED" if remaining is not None and remaining <= 0 else "CANCELLED")
            return
        status = to_status(error)
        if status.code is grpc.StatusCode.INTERNAL:
            logger.error("%s failed", self._method, exc_info=error)
        self._end(status.code.name)
        await self._context.abort(status.code, status.details, status.trailing_metadata)

    def _end(self, code: str) -> None:
        interceptor = self._interceptor
        if self._admitted:
            interceptor.limiter.release_call()
        if not self._observed:
            return
        seconds, images = time.perf_counter() - self._started, self._images
        if interceptor.observer is not None:
            # A rejected request may claim any number of images.
            succeeded = images if code == "OK" else 0
            interceptor.observer.rpc_done(self._method.rpartition("/")[2], code, seconds, succeeded)
        if logger.isEnabledFor(logging.DEBUG):
            fields = {"method": self._method, "code": code, "milliseconds": round(1000 * seconds, 3), "images": images}
            text = f"{self._method} {code} {1000 * seconds:.1f} ms, {images} images"
            request_id = _request_id(self._context)
            if request_id:
                fields["request_id"] = request_id
                text += f", id {request_id}"
            logger.debug("%s", text, extra={FIELDS: fields})


def _name_of(code: Any) -> str:
    """Return the name of a status, which the context may hold as a number."""
    for status in grpc.StatusCode:
        if code is status or code == status.value[0]:
            return status.name
    return grpc.StatusCode.UNKNOWN.name


def _request_id(context: Context) -> str:
    """Return the client's x-request-id, cut and without control characters, for the log."""
    for key, value in context.invocation_metadata() or ():
        if key == "x-request-id":
            text = value if isinstance(value, str) else value.decode("ascii", "replace")
            return "".join(character for character in text[:MAX_REQUEST_ID] if character.isprintable())
    return ""
