"""Around every call: domain errors become statuses, unknown ones are logged, each call leaves a debug line."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from serving.errors import (
    BundleError,
    DeviceError,
    InvalidInputError,
    ModelNotFoundError,
    OverloadedError,
    StoppingError,
)

logger = logging.getLogger(__name__)

STATUS_OF: tuple[tuple[type[Exception], grpc.StatusCode], ...] = (
    (InvalidInputError, grpc.StatusCode.INVALID_ARGUMENT),
    (ModelNotFoundError, grpc.StatusCode.NOT_FOUND),
    (BundleError, grpc.StatusCode.FAILED_PRECONDITION),
    (DeviceError, grpc.StatusCode.FAILED_PRECONDITION),
    (OverloadedError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (StoppingError, grpc.StatusCode.UNAVAILABLE),
)
"""The one table from domain errors to statuses; everything else is INTERNAL."""

INTERNAL_TEXT = "internal error; the server's log has the details"
"""The whole answer to an unknown exception: its own text may hold what is not the caller's business."""

MAX_DETAILS = 1000
"""Characters of a status message: it travels in a header, and gRPC limits headers to 8 KiB."""


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the calls of one service; those of others (health, reflection) pass."""

    def __init__(self, service: str) -> None:
        """Take the full name of the service."""
        self._prefix = f"/{service}/"

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the handler, wrapped."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if not method.startswith(self._prefix) or handler is None or handler.unary_unary is None:
            return handler
        inner: Callable[[Any, Any], Awaitable[Any]] = handler.unary_unary

        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            started = time.perf_counter()
            code = grpc.StatusCode.OK
            try:
                return await inner(request, context)
            except asyncio.CancelledError:  # The caller gave up, or its deadline passed: gRPC answers.
                code = grpc.StatusCode.CANCELLED
                raise
            except Exception as error:
                code, text = _answer_to(error)
                if code is grpc.StatusCode.INTERNAL:
                    logger.exception("%s failed", method)
                await context.abort(code, text)
            finally:
                if logger.isEnabledFor(logging.DEBUG):
                    milliseconds = 1000 * (time.perf_counter() - started)
                    logger.debug("%s %s %.1f ms, %d images", method, code.name, milliseconds, _images_in(request))

        return grpc.unary_unary_rpc_method_handler(
            call, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer
        )


def _answer_to(error: Exception) -> tuple[grpc.StatusCode, str]:
    for kind, code in STATUS_OF:
        if isinstance(error, kind):
            text = str(error)
            return code, text if len(text) <= MAX_DETAILS else text[: MAX_DETAILS - 1] + "…"
    return grpc.StatusCode.INTERNAL, INTERNAL_TEXT


def _images_in(request: Any) -> int:
    """Count the images that a request sends or asks for."""
    images = getattr(request, "images", None)
    if images is None:
        return int(getattr(request, "count", 0))
    return len(images.encoded.items) or next(iter(images.packed.shape), 0)
