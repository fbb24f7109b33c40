"""Closes the connection of a client that does not take its replies.

gRPC's asyncio server cannot end a call whose reply is waiting for the client's permission to send (HTTP/2 flow
control): the reply stays in memory until the connection ends.
"""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from urllib.parse import unquote

DESCRIPTORS = next(filter(Path.is_dir, (Path("/proc/self/fd"), Path("/dev/fd"))), None)
"""Folder with an entry per open file of this process; None where the system has none."""


def disconnect(peer: str) -> bool:
    """Shut down the connection with a peer; gRPC then ends all of its calls.

    Args:
        peer: what gRPC's `ServicerContext.peer` returns, "ipv4:127.0.0.1:4000" or "ipv6:%5B::1%5D:4000".

    Returns:
        Whether the connection was found. It is not where the system does not list open files, or allows no more.
    """
    found = False
    wanted = _endpoint_of(peer)
    if wanted is None or DESCRIPTORS is None:
        return found
    try:
        entries = list(DESCRIPTORS.iterdir())
    except OSError:
        return found
    for entry in entries:
        # A closed file may be replaced by another of the same number at any time: everything is asked of a duplicate.
        with suppress(OSError, ValueError):
            duplicate = os.dup(int(entry.name))
            if not stat.S_ISSOCK(os.fstat(duplicate).st_mode):
                os.close(duplicate)
                continue
            with socket.socket(fileno=duplicate) as connection:
                host, port, *_ = connection.getpeername()
                if (_address(host), port) == wanted:
                    connection.shutdown(socket.SHUT_RDWR)
                    found = True
    return found


def _endpoint_of(peer: str) -> tuple[object, int] | None:
    kind, _, endpoint = unquote(peer).partition(":")
    host, _, port = endpoint.rpartition(":")
    if kind not in ("ipv4", "ipv6") or not port.isdecimal():
        return None
    with suppress(ValueError):
        return _address(host.strip("[]")), int(port)
    return None


def _address(host: str) -> object:
    """Return an address in one form: IPv4 clients of a server on [::] have addresses such as ::ffff:127.0.0.1."""
    address = ip_address(host.partition("%")[0])
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
