"""Where the pages listen, which hosts they answer to, and the token that other machines need."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from partedvae.serving.config.addresses import is_loopback, listening_socket, split_address
from partedvae.serving.explore.access import accepts_only
from partedvae.serving.grpc.security import TokenFile

TOKEN_BYTES = 24


@contextmanager
def bound(address: str) -> Iterator[tuple[socket.socket, str, int]]:
    """Bind HOST:PORT; yields the socket, the host, IPv6 in brackets, and the port in use.

    Raises:
        AddressError: the address is malformed, in use, or not an address of this machine.
    """
    host, _ = split_address(address)
    with listening_socket(address) as listener:
        yield listener, host, listener.getsockname()[1]


def new_token(address: str, file: Path | None) -> tuple[Callable[[str], bool] | None, str]:
    """Return the check of tokens, and the token to print in the link; None and empty where none is needed.

    Args:
        address: HOST:PORT.
        file: tokens that are accepted; with None, addresses that other machines can reach get a new one.

    Raises:
        SecurityError: the file contains no token, or cannot be read.
    """
    if file is not None:
        tokens = TokenFile(file)
        return (lambda token: tokens.accepts(f"Bearer {token}")), ""
    if is_loopback(address):
        return None, ""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    return accepts_only(token), token


def hosts_of(host: str, accepts: Callable[[str], bool] | None) -> frozenset[str]:
    """Return the names under which this machine may be reached; any where a token is needed."""
    return frozenset() if accepts is not None else frozenset({"localhost", "127.0.0.1", "[::1]", host.lower()})


def link(host: str, port: int, token: str) -> str:
    """Return the URL to open; where all addresses of the machine are listened on, the one with its host name."""
    if host in ("0.0.0.0", "[::]"):
        host = socket.gethostname()
    return f"http://{host}:{port}/" + (f"?token={quote(token)}" if token else "")
