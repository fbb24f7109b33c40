"""HTTP proxies of the environment: none for this machine, and named by the error where one fails."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from partedvae import UnavailableError
from partedvae.channel import proxy_options
from partedvae.cli.main import main
from partedvae.proxy import EXCEPTIONS, VARIABLES, is_local, proxy_of
from tests.partedvae.conftest import Call
from tests.partedvae.fake_server import fake_server
from tests.processes import ServerProcess

ELSEWHERE = "0.0.0.1:50051"
"""An address that nothing can connect to."""


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, *EXCEPTIONS):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "target",
    [
        "127.0.0.1:50051",
        "127.9.9.9:1",
        "localhost:50051",
        "LocalHost.:50051",
        "my.localhost:50051",
        "[::1]:50051",
        "[::ffff:127.0.0.1]:50051",
        "0.0.0.0:50051",
        "dns:///localhost:50051",
        "dns://8.8.8.8/127.0.0.1:50051",
        "ipv4:127.0.0.1:1,127.0.0.2:2",
        "ipv6:[::1]:1",
        "unix:/run/partedvae.sock",
        "unix:///run/partedvae.sock",
    ],
)
def test_targets_on_this_machine(target: str) -> None:
    assert is_local(target)


@pytest.mark.parametrize(
    "target",
    [
        "10.0.0.1:50051",
        "example.org:50051",
        "localhost.example.org:50051",
        "dns:///partedvae:50051",
        "ipv4:127.0.0.1:1,10.0.0.1:2",
        "[2001:db8::1]:50051",
    ],
)
def test_targets_elsewhere(target: str) -> None:
    assert not is_local(target)


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_calls_to_this_machine_use_no_proxy(
    call: Call, monkeypatch: pytest.MonkeyPatch, variable: str, host: str
) -> None:
    """Calls reach the server although nothing listens at the proxy."""
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    with fake_server() as server:
        call(f"{host}:{server.address.rpartition(':')[2]}", "models")
        assert server.calls == 1


def test_the_health_check_of_this_machine_uses_no_proxy(server: ServerProcess) -> None:
    result = CliRunner().invoke(main, ["health", "--server", server.address], env={"http_proxy": "http://127.0.0.1:9"})
    assert (result.exit_code, result.output) == (0, "SERVING\n")


def test_a_proxy_that_fails_is_named(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the proxy's address and variable, without its password."""
    monkeypatch.setenv("http_proxy", "http://user:secret@127.0.0.1:9")
    with pytest.raises(UnavailableError, match=r"proxy 127\.0\.0\.1:9 of http_proxy; set no_proxy") as caught:
        call(ELSEWHERE, "models")
    assert "secret" not in str(caught.value)

    result = CliRunner().invoke(main, ["health", "--server", ELSEWHERE])
    assert result.exit_code == 1
    assert "(gRPC connects through the proxy 127.0.0.1:9 of http_proxy; set no_proxy" in result.output


def test_the_first_variable_counts_and_exceptions_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    assert proxy_of("example.org:1") is None
    monkeypatch.setenv("http_proxy", "last:3128")
    monkeypatch.setenv("grpc_proxy", "http://first:3128/")
    assert proxy_of("example.org:1") == "first:3128 of grpc_proxy"
    assert proxy_of("localhost:1") is None
    monkeypatch.setenv("no_proxy", "other.org, example.org")
    assert proxy_of("models.example.org:1") is None
    assert proxy_of("example.com:1") == "first:3128 of grpc_proxy"


@pytest.mark.parametrize("variable", EXCEPTIONS)
@pytest.mark.parametrize(
    ("excepted", "target", "direct"),
    [
        ("*", "example.org:1", True),
        ("example.org", "example.org:1", True),
        ("Example.org", "models.EXAMPLE.org:1", True),
        (".example.org", "dns:///models.example.org:1", True),
        ("*.example.org", "models.example.org:1", True),
        ("example.org:1", "example.org:1", True),
        ("example.org:2", "example.org:1", False),
        ("10.0.0.0/8", "10.1.2.3:1", True),
        ("10.0.0.0/8", "11.1.2.3:1", False),
        ("10.0.0.0/8", "example.org:1", False),
        ("10.1.2.3", "10.1.2.3:1", True),
        ("fd00::/8", "[fd12::1]:1", True),
        ("[fd12::1]", "[fd12::1]:1", True),
        ("other.org,10.0.0.0/8", "ipv4:10.1.2.3:1,10.1.2.4:1", True),
        ("10.1.2.3", "ipv4:10.1.2.3:1,10.1.2.4:1", False),
        (" , ", "example.org:1", False),
    ],
)
def test_exceptions_are_hosts_domains_and_networks(
    monkeypatch: pytest.MonkeyPatch, variable: str, excepted: str, target: str, direct: bool
) -> None:
    """The channel and the error agree, also where gRPC alone would use the proxy."""
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv(variable, excepted)
    assert (proxy_of(target) is None) == direct
    assert proxy_options(target) == ((("grpc.enable_http_proxy", 0),) if direct else ())
