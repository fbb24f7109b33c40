"""Addresses to listen on: parsing, checks, and ports shared by several processes."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from partedvae.serving.errors import AddressError


def split_address(address: str) -> tuple[str, int]:
    """Return host (IPv6 in brackets) and port of HOST:PORT.

    Raises:
        AddressError: the address does not have that form.
    """
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\s:\[\]]+):(\d{1,5})", address)
    if match is None or int(match[2]) > 65535:
        raise AddressError(
            f"the address {address!r} is not HOST:PORT; examples: 127.0.0.1:50051, or [::1]:50051 for IPv6"
        )
    return match[1], int(match[2])


def is_loopback(address: str) -> bool:
    """Report whether HOST:PORT can be reached only from this machine."""
    host, _ = split_address(address)
    return host in ("localhost", "[::1]") or host.startswith("127.")


def cannot_listen(address: str, reason: str) -> AddressError:
    """Return the error for an address that the system or gRPC rejects."""
    return AddressError(
        f"cannot listen on {address}: {reason}; choose another --address, or stop the process that listens there"
    )


def check_free(address: str) -> None:
    """Bind an address with a plain socket, because gRPC does not report why binding fails.

    Raises:
        AddressError: the address is malformed, in use, or not an address of this machine.
    """
    with listening_socket(address):
        pass


@contextmanager
def listening_socket(address: str) -> Iterator[socket.socket]:
    """Listen on an address in the block; port 0 is a free one.

    Raises:
        AddressError: the address is malformed, in use, or not an address of this machine.
    """
    with _socket(address) as (made, target):
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(target)
        made.listen()
        yield made


@contextmanager
def hold_port(address: str) -> Iterator[str]:
    """Reserve an address for processes that share it with SO_REUSEPORT.

    The socket that reserves it never listens, so that it receives no connections.

    Yields:
        HOST:PORT with the port in use.

    Raises:
        AddressError: the address is malformed, in use, or not an address of this machine; or the system cannot share
            ports.
    """
    host, _ = split_address(address)
    if not hasattr(socket, "SO_REUSEPORT"):
        raise cannot_listen(address, "this system cannot share a port between processes (no SO_REUSEPORT)")
    check_free(address)
    with _socket(address) as (holder, target):
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(target)
        # Needed only to bind while old connections close. Left on, `check_free` of another server would succeed.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        yield f"{host}:{holder.getsockname()[1]}"


@contextmanager
def _socket(address: str) -> Iterator[tuple[socket.socket, tuple[object, ...]]]:
    """Create a socket for an address; errors of the system become AddressError."""
    host, port = split_address(address)
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, kind, protocol)
    except OSError as error:
        raise cannot_listen(address, error.strerror or str(error)) from error
    with made:
        try:
            yield made, target
        except OSError as error:
            raise cannot_listen(address, error.strerror or str(error)) from error
