"""The connections of this process: what they have carried, and how to close them.

Neither front can end a call whose reply is waiting for the client's permission to send (HTTP/2 flow control), and the
native one cannot end a request that is arriving: what they hold stays in memory until the connection ends.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Collection, Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote

Endpoint: TypeAlias = tuple[IPv4Address | IPv6Address, int]
"""Address and port of a client."""

DESCRIPTORS = next(filter(Path.is_dir, (Path("/proc/self/fd"), Path("/dev/fd"))), None)
"""Folder with an entry per open file of this process; None where the system has none."""
_TCP_INFO = getattr(socket, "TCP_INFO", None)
_TRANSFERRED = struct.Struct("=120xQQ")
"""`tcpi_bytes_acked` and `tcpi_bytes_received` of Linux' `struct tcp_info`, which has grown only at its end."""


def disconnect(peer: str) -> bool:
    """Shut down the connection with a peer; gRPC then ends all of its calls.

    Args:
        peer: what gRPC's `ServicerContext.peer` returns, "ipv4:127.0.0.1:4000" or "ipv6:%5B::1%5D:4000".

    Returns:
        Whether the connection was found. It is not where the system does not list open files, or allows no more, and
        none of a Unix socket is: behind the native front, the calls of all clients share it.
    """
    endpoint = endpoint_of(peer)
    return endpoint is not None and disconnect_all({endpoint}) > 0


def disconnect_all(endpoints: Collection[Endpoint]) -> int:
    """Shut down the connections with some peers; return how many were found."""
    found = 0
    for connection, endpoint in connections():
        if endpoint in endpoints:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
                found += 1
    return found


def connections() -> Iterator[tuple[socket.socket, Endpoint]]:
    """Iterate over the connections of this process, with their peers; each socket is closed afterwards.

    Nothing is listed where the system does not list open files, or allows no more.
    """
    if DESCRIPTORS is None:
        return
    try:
        entries = list(DESCRIPTORS.iterdir())
    except OSError:
        return
    for entry in entries:
        # A closed file may be replaced by another of the same number at any time: everything is asked of a duplicate.
        with suppress(OSError, ValueError):
            duplicate = os.dup(int(entry.name))
            if not stat.S_ISSOCK(os.fstat(duplicate).st_mode):
                os.close(duplicate)
                continue
            with socket.socket(fileno=duplicate) as connection:
                host, port, *_ = connection.getpeername()
                yield connection, (_address(host), port)


def transferred(connection: socket.socket) -> tuple[int, int]:
    """Return the bytes that a connection has received, and those that its peer has acknowledged.

    Raises:
        OSError: the system does not count them (only Linux does), or this is no TCP connection.
    """
    if _TCP_INFO is None:
        raise OSError("this system has no TCP_INFO")
    info = connection.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _TRANSFERRED.size)
    if len(info) < _TRANSFERRED.size:
        raise OSError("this system does not count the bytes of a connection")
    acknowledged, received = _TRANSFERRED.unpack(info)
    return received, acknowledged


def endpoint_of(peer: str) -> Endpoint | None:
    """Return the address and port of a peer as gRPC names it; None if it has none, or the name is malformed."""
    kind, _, endpoint = unquote(peer).partition(":")
    host, _, port = endpoint.rpartition(":")
    if kind not in ("ipv4", "ipv6") or not port.isdecimal():
        return None
    with suppress(ValueError):
        return _address(host.strip("[]")), int(port)
    return None


def _address(host: str) -> IPv4Address | IPv6Address:
    """Return an address in one form: IPv4 clients of a server on [::] have addresses such as ::ffff:127.0.0.1."""
    address = ip_address(host.partition("%")[0])
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
