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
