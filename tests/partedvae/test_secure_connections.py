"""Both clients and the commands against a real server with TLS, client certificates and tokens."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from partedvae import AuthenticationError, UnavailableError
from partedvae.cli.main import main
from tests.bundles import GREY
from tests.partedvae.conftest import Call
from tests.processes import ServerProcess, running_server
from tests.serving.grpc.test_security import make_authority, make_certificate

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the authorities `ca` and `other`, certificates `server` and `client`, and a token."""
    folder = tmp_path_factory.mktemp("keys")
    make_authority(folder, "ca")
    make_authority(folder, "other")
    make_certificate(folder, "server", "ca")
    make_certificate(folder, "client", "ca")
    (folder / "token").write_text("secret\n")
    return folder


@pytest.fixture(scope="module")
def secure_server(tiny_models: Path, keys: Path) -> Iterator[ServerProcess]:
    """Serve with TLS; clients need a certificate and a token."""
    tls = ("--tls-cert", keys / "server.pem", "--tls-key", keys / "server.key", "--tls-client-ca", keys / "ca.pem")
    with running_server(tiny_models, *map(str, tls), "--token-file", str(keys / "token")) as server:
        yield server


def settings(keys: Path, **changes: Any) -> dict[str, Any]:
    return {
        "ca": keys / "ca.pem",
        "cert": keys / "client.pem",
        "key": keys / "client.key",
        "token": keys / "token",
    } | changes


def test_with_certificate_and_token(call: Call, secure_server: ServerProcess, keys: Path) -> None:
    images = GREY.random_images(3)
    features = call(secure_server.address, "features", images, settings=settings(keys))
    assert features.classes.tolist() == [str(k) for k in GREY.encode(images)["digit.probs"].argmax(axis=1)]


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"token": None}, AuthenticationError, "no token: the server at"),
        ({"token": "wrong"}, AuthenticationError, "the token is not one that this server knows: the server at"),
        ({"ca": "other.pem"}, UnavailableError, "no secure connection to .*CERTIFICATE_VERIFY_FAILED.*check that"),
    ],
)
def test_with_something_missing(
    call: Call, secure_server: ServerProcess, keys: Path, changes: dict[str, Any], kind: type[Exception], message: str
) -> None:
    """Each error has the missing part."""
    if "ca" in changes:
        changes = {"ca": keys / changes["ca"]}
    with pytest.raises(kind, match=message):
        call(secure_server.address, "models", settings=settings(keys, **changes))


def test_commands_have_the_same_as_options(secure_server: ServerProcess, keys: Path) -> None:
    """With the options the models are listed; without the token the command reports the error."""
    tls = ["--tls-ca", keys / "ca.pem", "--tls-cert", keys / "client.pem", "--tls-key", keys / "client.key"]
    arguments = ["models", "--server", secure_server.address, *map(str, tls)]
    listed = CliRunner().invoke(main, [*arguments, "--token-file", str(keys / "token")])
    refused = CliRunner().invoke(main, arguments)

    assert listed.exit_code == 0
    assert "tiny   1 (default)  ready" in listed.output
    assert refused.exit_code == 1
    assert refused.output.startswith("Error: no token: the server at")
    assert refused.output.endswith("requires one; pass --token-file\n")


def test_errors_of_commands_name_options(secure_server: ServerProcess, keys: Path, tmp_path: Path) -> None:
    """Not the arguments of the client, in all commands that connect."""
    output = ["--output", str(tmp_path / "x.png")]
    for command in (["models"], ["generate", *output], ["traverse", *output]):
        arguments = [*command, "--server", secure_server.address]
        plain = CliRunner().invoke(main, arguments)
        unknown = CliRunner().invoke(main, [*arguments, "--tls-ca", str(keys / "other.pem")])

        assert (plain.exit_code, unknown.exit_code) == (1, 1)
        assert plain.output == (
            f"Error: the connection to {secure_server.address} was closed; try again, with --tls or --tls-ca if the "
            "server uses TLS\n"
        )
        assert unknown.output.endswith(
            "check that the server uses TLS, that --tls-ca signed its certificate for this name, and whether it "
            "requires --tls-cert and --tls-key\n"
        )
