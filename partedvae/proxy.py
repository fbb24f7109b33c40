"""HTTP proxies of the environment: gRPC sends even calls to this machine to them, and its errors do not name them."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
"""Environment variables that gRPC reads; the first that is set counts."""
EXCEPTIONS = ("no_grpc_proxy", "no_proxy", "NO_PROXY")
"""Environment variables with the hosts that are connected to directly; the first that is set counts."""

ADDRESS_SCHEME = re.compile(r"(?:dns|ipv4|ipv6|passthrough):(?://[^/]*/)?", re.IGNORECASE)
"""The start of gRPC targets that list addresses, HOST:PORT each."""
_LOCAL_SCHEME = re.compile(r"(?:unix|unix-abstract|vsock):", re.IGNORECASE)


def is_local(target: str) -> bool:
    """Report whether all hosts of a gRPC target are this machine, which no proxy can reach in its place.

    Args:
        target: HOST:PORT, or another name that gRPC resolves, such as dns:///HOST:PORT or ipv4:HOST:PORT,HOST:PORT.
    """
    return _LOCAL_SCHEME.match(target) is not None or all(map(_is_this_machine, _hosts(target)))


def is_direct(target: str) -> bool:
    """Report whether no proxy of the environment is to be used for a target.

    gRPC itself reads the exceptions as ends of names alone, and not those of NO_PROXY.

    Args:
        target: as of `is_local`.
    """
    excepted = next((os.environ[name] for name in EXCEPTIONS if os.environ.get(name)), "")
    names = [name for name in map(str.strip, excepted.lower().split(",")) if name]
    return is_local(target) or all(
        any(_is_excepted(address.lower(), name) for name in names) for address in addresses_of(target)
    )


def proxy_of(target: str) -> str | None:
    """Return "HOST:PORT of VARIABLE" of the proxy through which gRPC connects to a target; None without one.

    The name and the password of the proxy are left out.
    """
    variable = next((name for name in VARIABLES if os.environ.get(name)), None)
    if variable is None or is_direct(target):
        return None
    value = os.environ[variable]
    return f"{urlsplit(value if '//' in value else f'//{value}').netloc.rpartition('@')[2]} of {variable}"


def addresses_of(target: str) -> Sequence[str]:
    """Return the addresses of a target, HOST:PORT each."""
    scheme = ADDRESS_SCHEME.match(target)
    return (target[scheme.end() :] if scheme else target).split(",")


def _hosts(target: str) -> Sequence[str]:
    """Return the hosts of a target, without ports and brackets."""
    return [_host(address) for address in addresses_of(target)]


def _host(address: str) -> str:
    if address.startswith("["):
        return address[1:].partition("]")[0]
    # More than one colon: an IPv6 address without a port.
    return address.partition(":")[0] if address.count(":") == 1 else address


def _is_excepted(address: str, name: str) -> bool:
    """Report whether an address, HOST:PORT, is one of no_proxy's: *, a network (10.0.0.0/8), a host, or its domain."""
    if name == "*":
        return True
    host = _host(address)
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(name.strip("[]"), strict=False)
    except ValueError:  # One of them is a name, or the exception has a port.
        return address == name or host.endswith(name.removeprefix("*"))


def _is_this_machine(host: str) -> bool:
    name = host.lower().rstrip(".")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name.rpartition(".")[2] == "localhost" or name == socket.gethostname().lower()
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    address = mapped or address
    # A connection to the unspecified address (0.0.0.0, ::), on which servers listen, reaches this machine.
    return address.is_loopback or address.is_unspecified
