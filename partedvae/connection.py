"""How a client connects: the settings with which it is pickled, and what both transports share."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any

import grpc

from partedvae import forks
from partedvae.arguments import check_integer, check_path, check_positive
from partedvae.channel import (
    FileName,
    Metadata,
    Token,
    call_metadata,
    channel_credentials,
    channel_options,
)
from partedvae.coalescing import Policy, check_coalesce
from partedvae.common import DEFAULT_TIMEOUT
from partedvae.errors import InvalidRequestError, PartedVAEError, from_rpc
from partedvae.targets import check_target


@dataclass(frozen=True, kw_only=True)
class ConnectionSettings:
    """The arguments of a client that say how to connect. A client is pickled as these, without its connection."""

    address: str
    timeout: float | None = DEFAULT_TIMEOUT
    token: Token | None = None
    tls: bool = False
    ca: FileName | None = None
    cert: FileName | None = None
    key: FileName | None = None
    credentials: grpc.ChannelCredentials | None = None
    connections: int = 1
    coalesce: bool | float = False

    def __post_init__(self) -> None:
        """Check the types and ranges of the arguments; the errors never show a token."""
        check_target(self.address, encrypted=self.is_encrypted)
        if self.timeout is not None:
            check_positive("timeout", self.timeout, "seconds")
        check_integer("connections", self.connections, 1)
        check_coalesce(self.coalesce, self.timeout)
        for name, path in (("ca", self.ca), ("cert", self.cert), ("key", self.key)):
            if path is not None:
                check_path(name, path)
        if not (self.token is None or isinstance(self.token, str | os.PathLike) or callable(self.token)):
            raise InvalidRequestError(
                f"token= is of type {type(self.token).__name__}; pass the token as a str, the path of its file, or a "
                "function that returns it"
            )
        if not isinstance(self.credentials, grpc.ChannelCredentials | None):
            raise InvalidRequestError(
                f"credentials= is of type {type(self.credentials).__name__}; pass grpc.ChannelCredentials, or ca, cert "
                "and key"
            )

    def __getstate__(self) -> dict[str, Any]:
        """Return the arguments for pickling.

        Raises:
            InvalidRequestError: one of them is an object of gRPC.
        """
        if self.credentials is not None:
            raise InvalidRequestError(
                "a client with credentials= cannot be pickled; pass tls, ca, cert and key instead"
            )
        return dict(self.__dict__)

    @property
    def is_encrypted(self) -> bool:
        """Whether calls are encrypted."""
        return self.tls or any(given is not None for given in (self.ca, self.cert, self.credentials))

    def channel_credentials(self) -> grpc.ChannelCredentials | None:
        """Return the credentials of a channel, None for plain text; the errors are those of `channel_credentials`."""
        return channel_credentials(tls=self.tls, ca=self.ca, cert=self.cert, key=self.key, credentials=self.credentials)


class Connection:
    """Settings and errors of a connection, for both transports. Pickled as its settings."""

    def __init__(self, settings: ConnectionSettings) -> None:
        """Prepare a connection; it is made at the first call.

        Raises:
            InvalidRequestError: settings exclude each other.
            OSError: a file of `ca`, `cert` or `key` cannot be read.
        """
        self._settings = settings
        self._credentials = settings.channel_credentials()
        self._options = channel_options(settings.address)
        self._policy = Policy.of(settings.coalesce, connections=settings.connections)
        self._lock = Lock()
        self._closed = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how to make a connection with the same settings, for pickling and copying."""
        return type(self), (self._settings,)

    def open(self) -> None:
        """Allow calls, also after `close`."""
        self._closed = False

    @property
    def is_closed(self) -> bool:
        """Whether the client was closed, and not opened again."""
        return self._closed

    @property
    def address(self) -> str:
        """The server's address."""
        return self._settings.address

    @property
    def timeout(self) -> float | None:
        """Seconds per message; None waits without limit."""
        timeout = self._settings.timeout
        # Added to the time of day, a float32 of NumPy would be rounded to multiples of two minutes.
        return None if timeout is None else float(timeout)

    def metadata(self) -> Metadata:
        """Return the metadata of a call; the errors are those of `call_metadata`."""
        return call_metadata(self._settings.token)

    def error(self, error: grpc.RpcError, locate: Callable[[str], str] = str) -> PartedVAEError:
        """Return the exception for a failed call; see `from_rpc`."""
        if self._closed:
            return self.closed_error()
        return from_rpc(error, self.address, locate)

    def closed_error(self) -> PartedVAEError:
        """Return the exception for a call that was not finished when the client was closed."""
        return InvalidRequestError(f"the client of {self.address} was closed during the call; create another one")

    def _check_open(self) -> None:
        """Check that calls are possible."""
        if self._closed:
            raise InvalidRequestError(f"the client of {self.address} is closed; create another one")
        forks.check(self.address)
