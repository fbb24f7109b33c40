"""Addresses that are refused before anything connects."""

import re
from typing import Any

import pytest
from click.testing import CliRunner

from partedvae import AsyncClient, Client, InvalidRequestError
from partedvae.cli.main import main
from partedvae.targets import check_target

GOOD = [
    "127.0.0.1:50051",
    "localhost:1",
    "[::1]:65535",
    "[fe80::1%eth0]:50051",
    "my_host.example:50051",
    "dns:host:50051",
    "dns:///host:50051",
    "dns://8.8.8.8/host:50051",
    "ipv4:10.0.0.1:50051,10.0.0.2:50051",
    "ipv6:[::1]:50051,[::2]:50051",
    "unix:/run/partedvae.sock",
    "unix:///run/partedvae.sock",
    "unix-abstract:partedvae",
    "xds:///partedvae",
]
BAD = {
    "": "the address '' is not HOST:PORT, such as 127.0.0.1:50051, or [::1]:50051 for IPv6",
    "host": "the address 'host' has no port; write HOST:PORT, such as host:50051",
    "10.0.0.1": "the address '10.0.0.1' has no port; write HOST:PORT, such as 10.0.0.1:50051",
    "[::1]": "the address '[::1]' has no port; write HOST:PORT, such as [::1]:50051",
    "dns:///host": "the address 'dns:///host' has no port",
    "ipv4:10.0.0.1:50051,10.0.0.2": "has no port; write HOST:PORT, such as 10.0.0.2:50051",
    "::1:50051": "the address '::1:50051' is not HOST:PORT, such as 127.0.0.1:50051, or [::1]:50051 for IPv6; write an",
    "host:": "the address 'host:' is not HOST:PORT",
    "host:grpc": "the address 'host:grpc' is not HOST:PORT",
    ":50051": "the address ':50051' is not HOST:PORT",
    "host:0": "the address 'host:0' has the port 0; a port is 1 to 65535",
    "host:65536": "the address 'host:65536' has the port 65536; a port is 1 to 65535",
    "host:50051/v1": "the address 'host:50051/v1' is not HOST:PORT",
    "host:50051\n": "the address 'host:50051\\n' is not HOST:PORT",
    "a:1,b:2 ": "is not HOST:PORT",
    "http://host:50051": "the address 'http://host:50051' is a URL; write HOST:PORT, such as host:50051",
    "HTTP://host": "is a URL; write HOST:PORT, such as host:50051",
    "http://me:secret@host:50051/path?x": "is a URL; write HOST:PORT, such as host:50051",
    "https://host": "the address 'https://host' is a URL; write HOST:PORT, with tls=True, such as host:443",
    "grpc://[::1]:50051/": "is a URL; write HOST:PORT, such as [::1]:50051",
    "grpcs://host:50051": "is a URL; write HOST:PORT, with tls=True, such as host:50051",
    "tcp://": "the address 'tcp://' is a URL; write HOST:PORT, such as 127.0.0.1:50051",
}


@pytest.mark.parametrize("target", GOOD)
def test_names_that_grpc_resolves(target: str) -> None:
    check_target(target, encrypted=False)
    Client(target).close()


@pytest.mark.parametrize(("target", "message"), BAD.items())
def test_malformed_addresses(target: str, message: str) -> None:
    """Neither client can be made; the message has the form to write."""
    for kind in (Client, AsyncClient):
        with pytest.raises(InvalidRequestError, match=re.escape(message)):
            kind(target)


@pytest.mark.parametrize("target", [None, 50051, b"host:1", ("host", 50051)])
def test_addresses_of_another_type(target: Any) -> None:
    with pytest.raises(InvalidRequestError, match=re.escape(f"the address is {target!r}; pass HOST:PORT as a str")):
        Client(target)


def test_with_tls_the_default_port_is_grpcs() -> None:
    check_target("host", encrypted=True)
    check_target("dns:///host", encrypted=True)
    with pytest.raises(InvalidRequestError, match="is a URL"):
        check_target("https://host", encrypted=True)


@pytest.mark.parametrize("command", [["models"], ["health"], ["generate", "--output", "x.png"], ["classify", __file__]])
@pytest.mark.parametrize("in_environment", [True, False])
def test_commands(command: list[str], in_environment: bool) -> None:
    """The error has the options of commands, from --server and from PARTEDVAE_SERVER."""
    server, environment = ["--server", "https://host"], {"PARTEDVAE_SERVER": "https://host"}
    result = CliRunner().invoke(
        main, command if in_environment else [*command, *server], env=environment if in_environment else {}
    )

    assert result.exit_code == 1
    assert result.output == (
        "Error: the address 'https://host' is a URL; write HOST:PORT, with --tls, such as host:443\n"
    )
