"""From an error to what the caller gets: status, text, and when to try again."""

from __future__ import annotations

import math
from typing import NamedTuple

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]  # has no types
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # has no types
from grpc_status import rpc_status

from partedvae.serving.errors import (
    BundleError,
    DeviceError,
    InvalidInputError,
    MessageTooLargeError,
    ModelNotFoundError,
    OverloadedError,
    StoppingError,
)

STATUS_OF: tuple[tuple[type[Exception], grpc.StatusCode], ...] = (
    (InvalidInputError, grpc.StatusCode.INVALID_ARGUMENT),
    (OverloadedError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (MessageTooLargeError, grpc.StatusCode.RESOURCE_EXHAUSTED),  # as gRPC itself says it
    (ModelNotFoundError, grpc.StatusCode.NOT_FOUND),
    (BundleError, grpc.StatusCode.FAILED_PRECONDITION),
    (DeviceError, grpc.StatusCode.FAILED_PRECONDITION),
    (StoppingError, grpc.StatusCode.UNAVAILABLE),
)
"""The one table from domain errors to statuses; everything else is INTERNAL."""

INTERNAL_TEXT = "internal error; the server's log has the details"
"""The whole answer to an unknown exception: its own text may hold what is not the caller's business."""

MAX_DETAILS = 1000
"""Characters of a status message: it travels in a header, and gRPC limits headers to 8 KiB."""

PUSHBACK = "grpc-retry-pushback-ms"
"""Metadata that gRPC's own retries obey: milliseconds to wait, or a negative number for never."""

Metadata = tuple[tuple[str, str | bytes], ...]


class Answer(NamedTuple):
    """How a call that failed ends."""

    code: grpc.StatusCode
    text: str
    metadata: Metadata = ()
    """Trailing metadata."""


def answer_to(error: Exception) -> Answer:
    """Return how a call that raised `error` ends."""
    for kind, code in STATUS_OF:
        if isinstance(error, kind):
            text = str(error)
            text = text if len(text) <= MAX_DETAILS else text[: MAX_DETAILS - 1] + "…"
            return Answer(code, text, _advice(error, code, text))
    return Answer(grpc.StatusCode.INTERNAL, INTERNAL_TEXT)


def _advice(error: Exception, code: grpc.StatusCode, text: str) -> Metadata:
    """Tell when to try again, for programs: as google.rpc.RetryInfo, and to gRPC's own retries."""
    if isinstance(error, MessageTooLargeError):
        return ((PUSHBACK, "-1"),)  # Or a client that tries overload again would send the large message again.
    if not isinstance(error, OverloadedError):
        return ()
    milliseconds = math.ceil(1000 * error.retry_after)
    delay = Duration()
    delay.FromMilliseconds(milliseconds)
    detail = AnyMessage()
    detail.Pack(RetryInfo(retry_delay=delay))
    status = rpc_status.to_status(Status(code=code.value[0], message=text, details=[detail]))
    return (*status.trailing_metadata, (PUSHBACK, str(milliseconds)))
