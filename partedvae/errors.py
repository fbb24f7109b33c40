"""The errors that a client raises, and the one table that makes them of gRPC's status codes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

import grpc


class PartedVAEError(Exception):
    """Base of all errors that the client raises."""


class InvalidRequestError(PartedVAEError, ValueError):
    """The request can never succeed as it is; the message names the value and the remedy."""


class NotFoundError(PartedVAEError, LookupError):
    """The server has no such model or version."""


class UnavailableError(PartedVAEError, ConnectionError):
    """No server answers at the address, or it is stopping."""


class DeadlineError(PartedVAEError, TimeoutError):
    """The server did not answer in time."""


class OverloadedError(PartedVAEError):
    """The server has more work than it takes, or a message was larger than it takes."""

    retry_after: float | None = None
    """Seconds after which the server thinks that it has room; None where it does not say, or where trying again would
    not help."""


class AuthenticationError(PartedVAEError, PermissionError):
    """The server wants a token, and there was none or a wrong one."""


class ModelError(PartedVAEError):
    """The model cannot answer: its bundle is broken, or has no graph for what was asked."""


class InternalError(PartedVAEError):
    """The server failed; its log says why."""


def plain(error: Exception) -> str:
    """Say an error to the user of a command; an error of the operating system without its number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


_BY_STATUS: dict[grpc.StatusCode, type[PartedVAEError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
    grpc.StatusCode.UNAUTHENTICATED: AuthenticationError,
    grpc.StatusCode.FAILED_PRECONDITION: ModelError,
}
"""Every other status is an InternalError."""

PUSHBACK = "grpc-retry-pushback-ms"
"""Trailing metadata: milliseconds to wait before trying again, negative for never."""

_NEVER_CONNECTED = ("failed to connect", "errors resolving", "dns resolution failed")
"""How gRPC's own details begin where no server was reached; a server's UNAVAILABLE has words of its own."""


def from_rpc(error: grpc.RpcError, address: str, locate: Callable[[str], str] = str) -> PartedVAEError:
    """Make the typed error of a failed call.

    Args:
        error: what the call raised, in sync or async gRPC.
        address: the server's address, for the message.
        locate: names the images of a refused request as the caller knows them (see `Chunk.locate`).
    """
    status, details = error.code(), error.details() or ""
    kind = _BY_STATUS.get(status, InternalError)
    if kind is UnavailableError:
        if "handshake" in details.lower():
            reason = details.removesuffix(": OK").rpartition("OPENSSL_internal:")[2]
            return kind(
                f"no secure connection to {address} ({reason}); check that the server uses TLS, that ca= signed its "
                "certificate for this name, and whether it asks for cert= and key="
            )
        if "socket closed" in details.lower():
            return kind(
                f"the connection to {address} was closed; try again, with tls=True or ca= if the server uses TLS"
            )
        if details.lower().startswith(_NEVER_CONNECTED):
            reason = details.rpartition(": ")[2].rstrip("]")
            return kind(f"no server answers at {address} ({reason}); start one with 'partedvae serve MODELS_DIR'")
        return kind(f"the server at {address} is not available: {details}; try again")
    if kind is DeadlineError:
        return kind(not_in_time(address))
    if kind is InternalError:
        return kind(f"the server at {address} failed with {status.name}: {details}")
    if kind is AuthenticationError:
        # The server's own remedy is gRPC's, in metadata.
        reason = details.partition(":")[0]
        return kind(f"{reason}: the server at {address} wants one; give token=, or --token-file to a command")
    made = kind(locate(details))
    if isinstance(made, OverloadedError):
        made.retry_after = _retry_after(error)
    return made


def not_in_time(address: str) -> str:
    """Say that a server did not answer in time."""
    return f"the server at {address} did not answer in time; ask again with a longer timeout="


def _retry_after(error: grpc.RpcError) -> float | None:
    """Read the server's advice in seconds, which gRPC's own retries follow as well."""
    trailer = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
    for name, value in trailer:
        if name == PUSHBACK and str(value).isdecimal():
            return int(value) / 1000
    return None
