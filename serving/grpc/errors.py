"""Maps exceptions to gRPC statuses: code, message, and when the client may retry."""

from __future__ import annotations

import math
from typing import NamedTuple

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import (  # type: ignore[import-untyped]  # has no types
    ErrorInfo,
    RetryInfo,
)
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # has no types
from grpc_status import rpc_status

from partedvae.errors import DOMAIN, PUSHBACK, TOO_LARGE
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
    (MessageTooLargeError, grpc.StatusCode.RESOURCE_EXHAUSTED),  # the code that gRPC itself uses
    (ModelNotFoundError, grpc.StatusCode.NOT_FOUND),
    (BundleError, grpc.StatusCode.FAILED_PRECONDITION),
    (DeviceError, grpc.StatusCode.FAILED_PRECONDITION),
    (StoppingError, grpc.StatusCode.UNAVAILABLE),
)
"""Status codes of all domain errors; every other exception is INTERNAL."""

INTERNAL_TEXT = "internal error; see the server's log for details"
"""Message of every INTERNAL status: the text of an unexpected exception may contain private data."""

MAX_DETAILS = 1000
"""Maximum characters of a status message: it travels in a header, and gRPC limits headers to 8 KiB."""

Metadata = tuple[tuple[str, str | bytes], ...]


class RpcError(NamedTuple):
    """Status of a failed call."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: Metadata = ()


def to_status(error: Exception) -> RpcError:
    """Return the status of a call that raised `error`."""
    for kind, code in STATUS_OF:
        if isinstance(error, kind):
            details = str(error)
            details = details if len(details) <= MAX_DETAILS else details[: MAX_DETAILS - 1] + "…"
            return RpcError(code, details, _retry_metadata(error, code, details))
    return RpcError(grpc.StatusCode.INTERNAL, INTERNAL_TEXT)


def _retry_metadata(error: Exception, code: grpc.StatusCode, details: str) -> Metadata:
    """Return whether and when to retry, in both forms that clients read: google.rpc's details and gRPC's pushback."""
    advice: Message
    if isinstance(error, MessageTooLargeError):
        # Clients that retry RESOURCE_EXHAUSTED would send the large message again.
        advice, pushback = ErrorInfo(reason=TOO_LARGE, domain=DOMAIN), "-1"
    elif isinstance(error, OverloadedError):
        milliseconds = math.ceil(1000 * error.retry_after)
        delay = Duration()
        delay.FromMilliseconds(milliseconds)
        advice, pushback = RetryInfo(retry_delay=delay), str(milliseconds)
    else:
        return ()
    detail = AnyMessage()
    detail.Pack(advice)
    status = rpc_status.to_status(Status(code=code.value[0], message=details, details=[detail]))
    return (*status.trailing_metadata, (PUSHBACK, pushback))
