"""The exceptions that the client raises, and the one table that maps gRPC status codes to them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, cast

from partedvae.proxy import proxy_of

if TYPE_CHECKING:
    import grpc


class PartedVAEError(Exception):
    """Base class of all exceptions that the client raises."""


class InvalidRequestError(PartedVAEError, ValueError):
    """The request is invalid and would fail again; the message names the value and the remedy."""


class NotFoundError(PartedVAEError, LookupError):
    """The server has no such model or version."""


class UnavailableError(PartedVAEError, ConnectionError):
    """No server answers at the address, or the server is shutting down."""

    retry_after: float | None = None
    """Seconds after which the server suggests to retry; None where it suggests nothing."""
    retryable: bool = True
    """Whether a retry may succeed: False where the server says that it would fail."""


class DeadlineError(PartedVAEError, TimeoutError):
    """The server did not answer within the timeout."""


class OverloadedError(PartedVAEError):
    """The server is overloaded, or a message exceeds its size limit."""

    retry_after: float | None = None
    """Seconds after which the server suggests to retry; None where it suggests nothing, or where a retry would fail."""
    retryable: bool = True
    """Whether a retry may succeed: False where the server says that it would fail, as a message that is too large."""


class AuthenticationError(PartedVAEError, PermissionError):
    """The server requires a token, and the call had none or a wrong one."""


class ModelError(PartedVAEError):
    """The model cannot answer: its bundle is broken, or has no graph for the requested output."""


class InternalError(PartedVAEError):
    """The server failed; its log has the reason."""


_BY_STATUS: dict[str, type[PartedVAEError]] = {
    "INVALID_ARGUMENT": InvalidRequestError,
    "OUT_OF_RANGE": InvalidRequestError,
    "NOT_FOUND": NotFoundError,
    "UNAVAILABLE": UnavailableError,
    "DEADLINE_EXCEEDED": DeadlineError,
    "RESOURCE_EXHAUSTED": OverloadedError,
    "UNAUTHENTICATED": AuthenticationError,
    "FAILED_PRECONDITION": ModelError,
}
"""Exceptions by the name of gRPC's status code; every other status is an `InternalError`."""

PUSHBACK = "grpc-retry-pushback-ms"
"""Trailing metadata: milliseconds to wait before a retry; negative, or no number, for no retry."""
_STATUS_DETAILS = "grpc-status-details-bin"
"""Trailing metadata: a google.rpc.Status, whose details may contain a google.rpc.RetryInfo or ErrorInfo."""
DOMAIN = "partedvae.v1"
"""Domain of the server's google.rpc.ErrorInfo."""
TOO_LARGE = "MESSAGE_TOO_LARGE"
"""Reason in it: the same request will be refused again."""

_NEVER_CONNECTED = (
    "connections to all backends failing",
    "failed to connect",
    "errors resolving",
    "dns resolution failed",
)
"""Prefixes of gRPC's own details where no server was reached; a server's UNAVAILABLE has its own text."""
_CLOSED_WHILE_SENDING = "Internal error from Core"
"""Details of grpc.aio where a call ended while the client was sending a message."""


def from_rpc(error: grpc.RpcError, address: str, locate: Callable[[str], str] = str) -> PartedVAEError:
    """Return the exception for a failed call.

    Args:
        error: the exception of the call, from synchronous or asyncio gRPC.
        address: the server's address, for the message.
        locate: replaces image numbers in the message by those of the caller; see `Chunk.locate`.
    """
    status, details = error.code().name, error.details() or ""
    if "closed due to fork" in details:
        return UnavailableError(f"the connection to {address} was closed because this process was forked")
    if status == "INTERNAL" and details == _CLOSED_WHILE_SENDING:
        return UnavailableError(f"the connection to {address} was closed while images were sent; try again")
    if status == "CANCELLED":  # By the server: gRPC raises other errors for calls that the client cancels.
        return UnavailableError(f"the server at {address} did not accept the call ({details}); try again")
    kind = _BY_STATUS.get(status, InternalError)
    if kind is UnavailableError:
        return _with_advice(kind(_unavailable(details, address) + proxy_hint(address)), error)
    if kind is DeadlineError:
        return deadline_error(address)
    if kind is InternalError:
        return kind(f"the server at {address} failed with {status}: {details}")
    if kind is AuthenticationError:
        # After the colon the server names the remedy in terms of gRPC metadata.
        reason = details.partition(":")[0]
        return kind(f"{reason}: the server at {address} requires one; pass token=")
    return _with_advice(kind(locate(details)), error)


def deadline_error(address: str) -> DeadlineError:
    """Return the exception for a server that did not answer in time."""
    message = f"the server at {address} did not answer in time; try again with a longer timeout="
    return DeadlineError(message + proxy_hint(address))


def proxy_hint(address: str) -> str:
    """Return which proxy of the environment may be the cause of a failed connection; empty where none is used."""
    proxy = proxy_of(address)
    if proxy is None:
        return ""
    return f" (gRPC connects through the proxy {proxy}; set no_proxy to the server's host to connect directly)"


def _unavailable(details: str, address: str) -> str:
    lower = details.lower()
    if "handshake" in lower:
        reason = details.removesuffix(": OK").rpartition("OPENSSL_internal:")[2]
        return (
            f"no secure connection to {address} ({reason}); check that the server uses TLS, that ca= signed its "
            "certificate for this name, and whether it requires cert= and key="
        )
    if "socket closed" in lower:
        return f"the connection to {address} was closed; try again, with tls=True or ca= if the server uses TLS"
    if "backend unhealthy" in lower:
        return f"the server at {address} is not ready: its health service reports NOT_SERVING; try again"
    if lower.startswith(_NEVER_CONNECTED):
        reason = details.rpartition(": ")[2].rstrip("]")
        return f"no server answers at {address} ({reason}); start one with 'partedvae serve MODELS_DIR'"
    return f"the server at {address} is not available: {details}; try again"


def _with_advice(made: PartedVAEError, error: grpc.RpcError) -> PartedVAEError:
    """Set when the server suggests to retry, as gRPC's own retries read it (gRFC A6), or google.rpc.RetryInfo."""
    if not isinstance(made, OverloadedError | UnavailableError):
        return made
    trailer = dict(cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ()))
    if PUSHBACK in trailer:
        pushback = str(trailer[PUSHBACK])
        made.retryable = re.fullmatch(r"[0-9]{1,15}", pushback) is not None
        made.retry_after = int(pushback) / 1000 if made.retryable else None
    elif isinstance(details := trailer.get(_STATUS_DETAILS), bytes):
        made.retryable, made.retry_after = _advice_of(details)
    return made


def _advice_of(details: bytes) -> tuple[bool, float | None]:
    """Return whether to retry, and after how many seconds, from a google.rpc.Status; None where it has no time."""
    from google.protobuf.message import DecodeError
    from google.rpc.error_details_pb2 import (  # type: ignore[import-untyped]  # has no types
        ErrorInfo,
        RetryInfo,
    )
    from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # has no types

    info, retry = ErrorInfo(), RetryInfo()
    try:
        entries = Status.FromString(details).details
        if any(entry.Unpack(info) and (info.domain, info.reason) == (DOMAIN, TOO_LARGE) for entry in entries):
            return False, None
        if not any(entry.Unpack(retry) for entry in entries):
            return True, None
    except DecodeError:
        return True, None
    seconds: float = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    return True, seconds if seconds >= 0 else None
