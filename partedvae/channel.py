"""How clients reach a server: limits, retries, TLS and tokens, the same for `Client` and `AsyncClient`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import grpc

from partedvae.errors import InvalidRequestError

DEFAULT_TIMEOUT = 60.0
IN_FLIGHT = 4
"""Chunks of one call that are under way at a time: enough to keep the server busy while the next is made."""

SERVICE_CONFIG = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{"service": "partedvae.v1.PartedVAEService"}],
                # All calls compute and change nothing, so that each may be sent again. The server says in the trailer
                # grpc-retry-pushback-ms how long to wait when it is overloaded, or never to try again.
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "2s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
                },
            }
        ],
        # Where half of the calls fail, repetitions stop, so that they do not keep down a server that struggles.
        "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.5},
    }
)
CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    # The server's limits hold in both directions, and its refusals tell the remedy.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.service_config", SERVICE_CONFIG),
    # What a call has sent is kept for a repetition up to this size; the usual 256 KiB would leave out most chunks.
    ("grpc.per_rpc_retry_buffer_size", 8 * 1024 * 1024),
    # A server that vanished without a word is noticed within 40 s, also by a stream that has no deadline.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)

FileName: TypeAlias = str | os.PathLike[str]
Token: TypeAlias = str | os.PathLike[str] | Callable[[], str]
"""A bearer token; a path of a file whose first line it is, read at each call so that it may change; or a function."""
Metadata: TypeAlias = tuple[tuple[str, str], ...]


def channel_credentials(
    *,
    tls: bool = False,
    ca: FileName | None = None,
    cert: FileName | None = None,
    key: FileName | None = None,
    credentials: grpc.ChannelCredentials | None = None,
) -> grpc.ChannelCredentials | None:
    """Return credentials of a connection, or None for one in plain text.

    Args:
        tls: encrypt, and trust the authorities that gRPC knows.
        ca: PEM file of the authorities to trust in their place; implies `tls`.
        cert: PEM file of the client's certificate chain, for servers that ask for one; implies `tls`.
        key: PEM file of its private key.
        credentials: gRPC's own, in place of all the others.

    Raises:
        InvalidRequestError: they do not go together.
        OSError: a file cannot be read.
    """
    if (cert is None) != (key is None):
        raise InvalidRequestError("a client's certificate and its key go together: give both cert and key, or neither")
    if credentials is not None:
        if tls or ca is not None or cert is not None:
            raise InvalidRequestError("credentials do not go with tls, ca, cert and key: give the one or the others")
        return credentials
    if not (tls or ca is not None or cert is not None):
        return None
    return grpc.ssl_channel_credentials(_read(ca), _read(key), _read(cert))


def call_metadata(token: Token | None) -> Metadata:
    """Return what is sent with each call.

    Raises:
        InvalidRequestError: the token is empty, or cannot be sent.
        OSError: its file cannot be read.
    """
    if token is None:
        return ()
    if callable(token):
        text, source = token(), "the token's function"
    elif isinstance(token, os.PathLike):
        lines = Path(token).read_text(encoding="utf-8").splitlines()
        text, source = next((line.strip() for line in lines if line.strip()), ""), f"the file {os.fspath(token)}"
    else:
        text, source = token, "token"
    if not text or not all("!" <= character <= "~" for character in text):
        # The text itself is not shown: it may be a token with a mistake in it.
        raise InvalidRequestError(f"{source} gives no token: it has to be printable ASCII without spaces")
    return (("authorization", f"Bearer {text}"),)


def _read(path: FileName | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()
