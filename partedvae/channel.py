"""Channel settings of both clients: balancing, reconnection, message limits, proxies, TLS and tokens."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import grpc

from partedvae.common.text_files import TextError, decode_text
from partedvae.errors import InvalidRequestError
from partedvae.proxy import is_direct

# Without a retryPolicy: gRPC's retries wait for exactly the time that a server names, so that all refused clients come
# back at once, and end with the fifth attempt. The clients retry by themselves (`partedvae.backoff`).
SERVICE_CONFIG = json.dumps(
    {
        # Where a name resolves to several servers, calls take turns among those that work. Of each server, grpc.health
        # reports the whole ("") rather than the service: a server without a working model can still list its models.
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": ""},
    }
)
CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    # The server limits messages in both directions, and its errors name the remedy.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.service_config", SERVICE_CONFIG),
    # Messages up to this size are sent again if no server has seen them (gRPC's transparent retries); the default of
    # 256 KiB would exclude most chunks.
    ("grpc.per_rpc_retry_buffer_size", 8 * 1024 * 1024),
    # A server that vanishes is detected within 40 s, also by a stream without a deadline.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # A server that is back after an outage is connected to within 2 s, rather than within gRPC's default of 2 min.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Every channel has a connection of its own: the workers of a server that share a port get calls by connection.
    ("grpc.use_local_subchannel_pool", 1),
)

FileName: TypeAlias = str | os.PathLike[str]
Token: TypeAlias = str | os.PathLike[str] | Callable[[], str]
"""A bearer token; the path of a file with the token in its first line, read at each call; or a function."""
Metadata: TypeAlias = tuple[tuple[str, str], ...]
ChannelOptions: TypeAlias = Sequence[tuple[str, int | str]]


def proxy_options(address: str) -> ChannelOptions:
    """Return the options of a channel that is not to use the HTTP proxy of the environment; see `is_direct`."""
    return (("grpc.enable_http_proxy", 0),) if is_direct(address) else ()


def channel_options(address: str) -> ChannelOptions:
    """Return the options of a client's channel to an address."""
    return (*CHANNEL_OPTIONS, *proxy_options(address))


def channel_credentials(
    *,
    tls: bool = False,
    ca: FileName | None = None,
    cert: FileName | None = None,
    key: FileName | None = None,
    credentials: grpc.ChannelCredentials | None = None,
) -> grpc.ChannelCredentials | None:
    """Return the credentials of a channel, or None for plain text.

    Args:
        tls: encrypt, and trust gRPC's default authorities.
        ca: PEM file of the authorities to trust instead; implies `tls`.
        cert: PEM file of the client's certificate chain, for servers that require one; implies `tls`.
        key: PEM file of its private key.
        credentials: gRPC's own, instead of all the others.

    Raises:
        InvalidRequestError: arguments exclude each other, or a file is not PEM.
        OSError: a file cannot be read.
    """
    if (cert is None) != (key is None):
        raise InvalidRequestError("a client certificate needs its key: pass both cert= and key=, or neither")
    if credentials is not None:
        if tls or ca is not None or cert is not None:
            raise InvalidRequestError("credentials cannot be used with tls, ca, cert and key: pass either")
        return credentials
    if not (tls or ca is not None or cert is not None):
        return None
    return grpc.ssl_channel_credentials(
        _read_pem("ca=", ca, "CERTIFICATE"),
        _read_pem("key=", key, "PRIVATE KEY"),
        _read_pem("cert=", cert, "CERTIFICATE"),
    )


def call_metadata(token: Token | None) -> Metadata:
    """Return the metadata of a call, which carry the token.

    Raises:
        InvalidRequestError: the token is empty, or has characters that cannot be sent.
        OSError: its file cannot be read.
    """
    if token is None:
        return ()
    if callable(token):
        text, source = token(), "the token function"
    elif isinstance(token, os.PathLike):
        source = f"the file {os.fspath(token)}"
        try:
            lines = decode_text(Path(token).read_bytes()).splitlines()
        except TextError as error:
            raise InvalidRequestError(f"{source} cannot be read as text: {error}") from error
        text = next((line.strip() for line in lines if line.strip()), "")
    else:
        text, source = token, "token="
    if not text or not all("!" <= character <= "~" for character in text):
        # The text is not shown, since it may be a token with a typing error.
        raise InvalidRequestError(f"{source} has no valid token: a token is printable ASCII without spaces")
    return (("authorization", f"Bearer {text}"),)


def _read_pem(argument: str, path: FileName | None, label: str) -> bytes | None:
    """Return the content of a PEM file; gRPC writes log lines about other files, and fails at the first call."""
    if path is None:
        return None
    content = Path(path).read_bytes()
    if not re.search(rf"^-----BEGIN (?:[A-Z0-9]+ )*{label}-----".encode(), content, re.MULTILINE):
        raise InvalidRequestError(
            f"{argument} is the file {os.fspath(path)}, which has no PEM block of a {label.lower()} (-----BEGIN … "
            f"{label}-----)"
        )
    return content
