"""What is recorded of a call: metrics, and a line of the log at level debug."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Iterable
from typing import Any, Protocol

import grpc

from partedvae.serving.config.logging import FIELDS
from partedvae.serving.grpc.call_policy import CallObserver
from partedvae.serving.grpc.errors import RpcError, to_status
from partedvae.serving.grpc.image_counts import image_count

logger = logging.getLogger(__name__)

MAX_REQUEST_ID = 128
"""Characters of a request's id that are logged."""


class CallContext(Protocol):
    """What is recorded of a call beside its method: gRPC's context, or the native front's call."""

    def code(self) -> Any:
        """Return the status, if there is one already."""

    def time_remaining(self) -> float | None:
        """Return the seconds until the deadline; None if there is none."""

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        """Return the metadata of the request."""


class CallRecord:
    """The record of one call. It ends with `failed`, `cancelled` or `end`."""

    __slots__ = ("_context", "_is_observed", "_method", "_observer", "_started", "images")

    def __init__(self, method: str, observer: CallObserver | None, context: CallContext) -> None:
        """Record that a call has started.

        Args:
            method: full name of the method, "/package.Service/Method".
            observer: receives the events of the call.
            context: the call.
        """
        self._method = method
        self._observer = observer
        self._context = context
        self._started = time.perf_counter()
        self._is_observed = self.is_needed(observer)
        self.images = 0
        """Images that were sent or asked for."""
        if observer is not None:
            observer.rpc_started()

    @staticmethod
    def is_needed(observer: CallObserver | None) -> bool:
        """Return whether anything records calls."""
        return observer is not None or logger.isEnabledFor(logging.DEBUG)

    def count_images(self, request: Any) -> Any:
        """Add the images of a request to the call's count, if anything records it, and return the request."""
        if self._is_observed:
            self.images += image_count(request)
        return request

    def failed(self, error: BaseException) -> RpcError | None:
        """Record the error that ended the call, and return its status; None if it has one already.

        Raises:
            BaseException: the error itself, if it is no `Exception`: gRPC sets the status of cancelled calls.
        """
        if isinstance(error, grpc.aio.AbortError):  # gRPC raises it again when the handler has returned.
            self.end(_name_of(self._context.code()))
            _forget_frames(error)
            error.__traceback__ = None
            return None
        if not isinstance(error, Exception):  # Cancelled by the client or its deadline: gRPC sets the status.
            self.cancelled()
            _forget_frames(error)
            try:
                raise error
            finally:
                del error  # Its traceback refers to this frame.
        status = to_status(error)
        if status.code is grpc.StatusCode.INTERNAL:
            logger.error("%s failed", self._method, exc_info=error)
        self.end(status.code.name)
        _forget_frames(error)
        return status

    def cancelled(self) -> None:
        """Record that the client, or its deadline, has ended the call."""
        remaining = self._context.time_remaining()
        code = "DEADLINE_EXCEEDED" if remaining is not None and remaining <= 0 else "CANCELLED"
        self.end(code if self._context.code() is None else _name_of(self._context.code()))

    def end(self, code: str) -> None:
        """Record the end of the call."""
        if not self._is_observed:
            return
        seconds, images = time.perf_counter() - self._started, self.images
        if self._observer is not None:
            # A rejected request may claim any number of images.
            succeeded = images if code == "OK" else 0
            self._observer.rpc_done(self._method.rpartition("/")[2], code, seconds, succeeded)
        if logger.isEnabledFor(logging.DEBUG):
            fields = {"method": self._method, "code": code, "milliseconds": round(1000 * seconds, 3), "images": images}
            text = f"{self._method} {code} {1000 * seconds:.1f} ms, {images} images"
            request_id = _request_id(self._context)
            if request_id:
                fields["request_id"] = request_id
                text += f", id {request_id}"
            logger.debug("%s", text, extra={FIELDS: fields})


def record_denied(method: str, observer: CallObserver | None) -> None:
    """Record a call that was denied before its request was read.

    Args:
        method: full name of the method, which the server has: a client could send any number of others.
        observer: receives the events of the method's calls.
    """
    if observer is not None:
        observer.rpc_started()
        observer.rpc_done(method.rpartition("/")[2], "UNAUTHENTICATED", 0.0, 0)
    logger.debug("%s UNAUTHENTICATED", method, extra={FIELDS: {"method": method, "code": "UNAUTHENTICATED"}})


def _forget_frames(error: BaseException | None) -> None:
    """Clear the local variables of the frames that an error refers to.

    A frame may refer to the error too, by a future or a call. Such a cycle, and with it the request, would stay in
    memory until the cyclic garbage collector runs.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _name_of(code: Any) -> str:
    """Return the name of a status, which the context may hold as a number."""
    for status in grpc.StatusCode:
        if code is status or code == status.value[0]:
            return status.name
    return grpc.StatusCode.UNKNOWN.name


def _request_id(context: CallContext) -> str:
    """Return the client's x-request-id, cut and without control characters, for the log."""
    for key, value in context.invocation_metadata() or ():
        if key == "x-request-id":
            text = value if isinstance(value, str) else value.decode("ascii", "replace")
            return "".join(character for character in text[:MAX_REQUEST_ID] if character.isprintable())
    return ""
