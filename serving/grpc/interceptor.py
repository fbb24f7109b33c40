"""Around every call: requests are read, domain errors become statuses, unknown ones are logged, the call is counted."""

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
from partedvae.serving.grpc.converters import rows_in
from partedvae.serving.grpc.errors import answer_to
from partedvae.serving.grpc.limiter import Door

logger = logging.getLogger(__name__)

MAX_REQUEST_ID = 128
"""Characters of a request's id that are logged."""

MAX_ROWS_COUNTED = 2**32 - 1
"""What a request's shape may add to the count of images: what our own contract's shapes can hold."""

IMAGE_FIELDS = ("images", "content", "style_images")
"""Names of all fields of requests that hold images."""

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


NO_REPLIES: tuple[Any, ...] = ()
"""Yielded by handlers that end otherwise: the interceptor of OpenTelemetry takes only generators."""


class CallObserver(Protocol):
    """Who wants to know of calls, for metrics. Called on the event loop."""

    def rpc_started(self) -> None:
        """Learn that a call began; `rpc_done` follows."""

    def rpc_done(self, method: str, code: str, seconds: float, images: int) -> None:
        """Learn that a call of a method, without its service, ended with the status of this name.

        `images` were sent or asked for; none where the call was not answered.
        """


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the calls of our services; those of others (health, reflection) pass.

    To be the innermost, the last in the server's list: then the others see its statuses. It wraps each method once, and
    does not ask the server for the handler again.
    """

    def __init__(
        self,
        *services: str,
        door: Door,
        max_message_bytes: int = 64 * 1024 * 1024,
        observer: CallObserver | None = None,
    ) -> None:
        """Take the limits and who wants to know.

        Args:
            services: full names of the services.
            door: who may come in.
            max_message_bytes: largest request. gRPC's own limit should be above it, since its text has no remedy.
            observer: who wants to know of calls.
        """
        self._prefixes = tuple(f"/{service}/" for service in services)
        self.door = door
        self._max_message_bytes = max_message_bytes
        self.observer = observer
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return the handler, wrapped."""
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
        """Return a handler like the given one that takes raw bytes.

        They are parsed here, since gRPC answers bytes that are no message with INTERNAL.
        """
        parse = handler.request_deserializer
        assert parse is not None, "the generated code has one for each method"
        max_bytes = self._max_message_bytes

        def read(raw: bytes) -> Any:
            if len(raw) > max_bytes:
                raise MessageTooLargeError(
                    f"the request has {len(raw):,} bytes, above the limit of {max_bytes:,}: "
                    "send fewer images in a request, or start the server with a larger --max-message-mb"
                )
            try:
                return parse(raw)
            except DecodeError as error:
                raise InvalidInputError(
                    f"the bytes sent are no request of {method}: {error}; are client and server of the same version?"
                ) from error

        async def read_all(raws: AsyncIterator[bytes], call: _Call) -> AsyncIterator[Any]:
            async for raw in raws:
                yield call.took(read(raw))

        if not handler.request_streaming and not handler.response_streaming:
            answer: Callable[[Any, Context], Awaitable[Any]] = handler.unary_unary  # type: ignore[assignment]  # of aio

            async def unary(raw: bytes, context: Context) -> Any:
                async with _Call(self, method, context) as call:
                    return await answer(call.took(read(raw)), context)

            return grpc.unary_unary_rpc_method_handler(unary, response_serializer=handler.response_serializer)

        stream: Callable[[AsyncIterator[Any], Context], Awaitable[None]] = handler.stream_stream  # type: ignore[assignment]  # of aio
        assert inspect.iscoroutinefunction(stream), f"{method} must stream both ways, and write its answers"

        async def streaming(raws: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
            for reply in NO_REPLIES:
                yield reply
            async with _Call(self, method, context) as call:
                await stream(read_all(raws, call), context)

        return grpc.stream_stream_rpc_method_handler(streaming, response_serializer=handler.response_serializer)


class _Call:
    """One call, from its arrival to its end."""

    __slots__ = ("_context", "_images", "_inside", "_interceptor", "_method", "_started", "_told")

    def __init__(self, interceptor: ErrorInterceptor, method: str, context: Context) -> None:
        self._interceptor = interceptor
        self._method = method
        self._context = context
        self._started = time.perf_counter()
        self._inside = interceptor.door.enter()
        self._told = interceptor.observer is not None or logger.isEnabledFor(logging.DEBUG)
        self._images = 0

    def took(self, request: Any) -> Any:
        """Count the images of a request, if anybody wants to know, and return it."""
        if self._told:
            self._images += _images_in(request)
        return request

    async def __aenter__(self) -> _Call:
        interceptor = self._interceptor
        if interceptor.observer is not None:
            interceptor.observer.rpc_started()
        if not self._inside:
            try:
                await interceptor.door.turn_away()
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
        if isinstance(error, grpc.aio.AbortError):  # The servicer has answered.
            self._end(_name_of(self._context.code()))
            return
        if not isinstance(error, Exception):  # The caller gave up, or its deadline passed: gRPC answers.
            remaining = self._context.time_remaining()
            self._end("DEADLINE_EXCEEDED" if remaining is not None and remaining <= 0 else "CANCELLED")
            return
        answer = answer_to(error)
        if answer.code is grpc.StatusCode.INTERNAL:
            logger.error("%s failed", self._method, exc_info=error)
        self._end(answer.code.name)
        await self._context.abort(answer.code, answer.text, answer.metadata)

    def _end(self, code: str) -> None:
        interceptor = self._interceptor
        if self._inside:
            interceptor.door.leave()
        if not self._told:
            return
        seconds, images = time.perf_counter() - self._started, self._images
        if interceptor.observer is not None:
            # What was refused may claim any number.
            answered = images if code == "OK" else 0
            interceptor.observer.rpc_done(self._method.rpartition("/")[2], code, seconds, answered)
        if logger.isEnabledFor(logging.DEBUG):
            fields = {"method": self._method, "code": code, "milliseconds": round(1000 * seconds, 3), "images": images}
            text = f"{self._method} {code} {1000 * seconds:.1f} ms, {images} images"
            request_id = _request_id(self._context)
            if request_id:
                fields["request_id"] = request_id
                text += f", id {request_id}"
            logger.debug("%s", text, extra={FIELDS: fields})


def _name_of(code: Any) -> str:
    """Name a status, which the context may hold as gRPC's own number."""
    for status in grpc.StatusCode:
        if code is status or code == status.value[0]:
            return status.name
    return grpc.StatusCode.UNKNOWN.name


def _request_id(context: Context) -> str:
    """Return the caller's x-request-id, made fit for a line of the log."""
    for key, value in context.invocation_metadata() or ():
        if key == "x-request-id":
            text = value if isinstance(value, str) else value.decode("ascii", "replace")
            return "".join(character for character in text[:MAX_REQUEST_ID] if character.isprintable())
    return ""


def _images_in(request: Any) -> int:
    """Count the images that a request sends or asks for."""
    inputs = getattr(request, "inputs", None)
    if inputs is not None:  # Of the Open Inference Protocol, whose shapes may hold anything until they are checked.
        rows = next((tensor.shape[0] for tensor in inputs if tensor.shape), 0)
        return int(min(max(rows, 0), MAX_ROWS_COUNTED))
    sent = (getattr(request, name, None) for name in IMAGE_FIELDS)
    asked = getattr(request, "count", 0) + getattr(getattr(request, "prior", None), "count", 0)
    return int(asked) + sum(rows_in(images) for images in sent if images is not None)
