"""Addresses to listen on: read, found free, and held for several processes."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from partedvae.serving.errors import AddressError


def split_address(address: str) -> tuple[str, int]:
    """Return host (of IPv6 in brackets) and port of HOST:PORT.

    Raises:
        AddressError: it is not of that form.
    """
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\s:\[\]]+):(\d{1,5})", address)
    if match is None or int(match[2]) > 65535:
        raise AddressError(
            f"the address {address!r} is not HOST:PORT; write it like 127.0.0.1:50051, or [::1]:50051 for IPv6"
        )
    return match[1], int(match[2])


def is_loopback(address: str) -> bool:
    """Tell whether HOST:PORT can be reached from this machine alone."""
    host, _ = split_address(address)
    return host in ("localhost", "[::1]") or host.startswith("127.")


def cannot_listen(address: str, reason: str) -> AddressError:
    """Return the error to raise when the system or gRPC refuses an address."""
    return AddressError(f"cannot listen on {address}: {reason}; choose another --address, or stop what listens there")


def check_free(address: str) -> None:
    """Try an address with a plain socket, because gRPC does not tell why it could not bind.

    Raises:
        AddressError: it is malformed, taken, or not this machine's.
    """
    with _socket(address) as (probe, target):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(target)
        probe.listen()


@contextmanager
def hold_port(address: str) -> Iterator[str]:
    """Take an address for processes that share it with SO_REUSEPORT, and keep others away from it.

    The socket held here never listens, so that no connection comes to it.

    Yields:
        HOST:PORT with the real port.

    Raises:
        AddressError: the address is malformed, taken, or not this machine's; or this system cannot share ports.
    """
    host, _ = split_address(address)
    if not hasattr(socket, "SO_REUSEPORT"):
        raise cannot_listen(address, "this system cannot share a port between processes (no SO_REUSEPORT)")
    check_free(address)
    with _socket(address) as (holder, target):
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(target)
        # Only to get past connections that are closing; from now on it would let `check_free` of another server pass.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        yield f"{host}:{holder.getsockname()[1]}"


@contextmanager
def _socket(address: str) -> Iterator[tuple[socket.socket, tuple[object, ...]]]:
    """Make a socket for an address; what the system refuses is an AddressError."""
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
