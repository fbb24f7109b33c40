"""A check of the names of servers, "targets" in gRPC, before anything connects."""

from __future__ import annotations

import re

from partedvae.errors import InvalidRequestError
from partedvae.proxy import ADDRESS_SCHEME, addresses_of

_OTHER_SCHEME = re.compile(r"(?:unix|unix-abstract|vsock|xds|google-c2p):", re.IGNORECASE)
"""The start of targets that name something else, which is left to gRPC."""
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)")
_ADDRESS = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+(?:%[^\]\s]+)?\]|[^\s:/@\[\]]+)(?::(?P<port>\d{1,5}))?")
_EXAMPLES = "such as 127.0.0.1:50051, or [::1]:50051 for IPv6"


def check_target(target: str, *, encrypted: bool) -> None:
    """Check that gRPC can connect to a target; only whether its hosts exist and answer is left to the connection.

    Args:
        target: HOST:PORT, or another name that gRPC resolves, such as dns:///HOST:PORT or ipv4:HOST:PORT,HOST:PORT.
        encrypted: whether calls use TLS, for which gRPC's default port is 443.

    Raises:
        InvalidRequestError: it is a URL, has no port, or is malformed. The message has the form to write.
    """
    if not isinstance(target, str):
        raise InvalidRequestError(f"the address is {target!r}; pass HOST:PORT as a str, {_EXAMPLES}")
    if _OTHER_SCHEME.match(target):
        return
    url = None if ADDRESS_SCHEME.match(target) else _URL.fullmatch(target)
    if url is not None:
        raise InvalidRequestError(_not_a_url(target, url[1].lower(), url[2]))
    for address in addresses_of(target):
        match = _ADDRESS.fullmatch(address)
        if match is None:
            ipv6 = "; write an IPv6 address in brackets" if address.count(":") > 1 and "/" not in address else ""
            raise InvalidRequestError(f"the address {target!r} is not HOST:PORT, {_EXAMPLES}{ipv6}")
        port = match["port"]
        if port is None and not encrypted:
            raise InvalidRequestError(
                f"the address {target!r} has no port; write HOST:PORT, such as {match['host']}:50051"
            )
        if port is not None and not 0 < int(port) < 65536:
            raise InvalidRequestError(f"the address {target!r} has the port {port}; a port is 1 to 65535")


def _not_a_url(target: str, scheme: str, rest: str) -> str:
    address = rest.partition("/")[0].rpartition("@")[2]
    match = _ADDRESS.fullmatch(address)
    if match is None:
        return f"the address {target!r} is a URL; write HOST:PORT, {_EXAMPLES}"
    port = match["port"] or ("443" if scheme in ("https", "grpcs") else "50051")
    tls = ", with tls=True" if scheme in ("https", "grpcs") else ""
    return f"the address {target!r} is a URL; write HOST:PORT{tls}, such as {match['host']}:{port}"
