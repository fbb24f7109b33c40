"""Tests of TLS, mutual TLS and tokens, with real servers and certificates made by openssl."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from partedvae.serving.errors import SecurityError
from partedvae.serving.grpc import security
from partedvae.serving.grpc.security import Certificates, TokenFile
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub
from tests.processes import PATIENCE, SERVE, ServerProcess, running_server, wait_until
from tests.scraping import metrics_of

pytestmark = pytest.mark.slow

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
HOW = 'send a token of the server\'s token file as metadata, "authorization: Bearer TOKEN"'


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def make_authority(folder: Path, name: str) -> None:
    """Write NAME.pem and NAME.key of a certificate authority."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", folder / f"{name}.key")
    openssl("req", "-x509", *key, "-out", folder / f"{name}.pem", "-subj", f"/CN={name}", "-days", "2")


def make_certificate(folder: Path, name: str, authority: str) -> None:
    """Write NAME.pem and NAME.key, signed by an authority, for localhost."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", folder / f"{name}.key")
    signer = ("-CA", folder / f"{authority}.pem", "-CAkey", folder / f"{authority}.key")
    names = ("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    openssl("req", "-x509", *key, *signer, *names, "-out", folder / f"{name}.pem", "-subj", f"/CN={name}", "-days", "2")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the authorities `ca` and `other`, and the certificates `server`, `client` and `stranger`."""
    folder = tmp_path_factory.mktemp("keys")
    for authority in ("ca", "other"):
        make_authority(folder, authority)
    for name, authority in (("server", "ca"), ("client", "ca"), ("stranger", "other")):
        make_certificate(folder, name, authority)
    return folder


@pytest.fixture(scope="module")
def mutual(tiny_models: Path, keys: Path) -> Iterator[ServerProcess]:
    """Run a server that requires client certificates."""
    options = ("--tls-cert", keys / "server.pem", "--tls-key", keys / "server.key", "--tls-client-ca", keys / "ca.pem")
    with running_server(tiny_models, *map(str, options)) as server:
        yield server


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """Write a file with two tokens."""
    path = tmp_path / "tokens"
    path.write_text("# for the tests\nfirst-token\n\n  second-token  \n")
    return path


@pytest.fixture
def guarded(each_front: str, tiny_models: Path, tokens: Path) -> Iterator[ServerProcess]:
    """Run a server that requires tokens."""
    with running_server(tiny_models, "--token-file", str(tokens)) as server:
        yield server


def ask(
    address: str,
    root: Path | None = None,
    certificate: tuple[Path, Path] | None = None,
    token: str | None = None,
) -> tuple[grpc.StatusCode, str]:
    """Call ListModels; return status code and details."""
    if root is None:
        channel = grpc.insecure_channel(address)
    else:
        chain, key = (path.read_bytes() for path in certificate) if certificate else (None, None)
        channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(root.read_bytes(), key, chain))
    metadata = () if token is None else (("authorization", token),)
    with channel:
        try:
            PartedVAEServiceStub(channel).ListModels(pb.ListModelsRequest(), metadata=metadata)
        except grpc.RpcError as error:
            return error.code(), error.details() or ""
        return grpc.StatusCode.OK, ""


def test_mutual_tls(mutual: ServerProcess, keys: Path) -> None:
    """Only clients that trust the server's authority and have a certificate of the clients' authority are served."""

    def code(root: str, certificate: str | None) -> grpc.StatusCode:
        files = (keys / f"{certificate}.pem", keys / f"{certificate}.key") if certificate else None
        return ask(mutual.address, keys / f"{root}.pem", files)[0]

    assert code("ca", "client") is grpc.StatusCode.OK
    assert code("ca", None) is grpc.StatusCode.UNAVAILABLE
    assert code("ca", "stranger") is grpc.StatusCode.UNAVAILABLE
    assert code("other", "client") is grpc.StatusCode.UNAVAILABLE
    assert ask(mutual.address)[0] is grpc.StatusCode.UNAVAILABLE


def test_certificates_are_reloaded(tiny_models: Path, keys: Path, tmp_path: Path) -> None:
    """New connections get the current certificate; files that do not belong together are ignored."""
    for kind in ("pem", "key"):
        shutil.copy(keys / f"server.{kind}", tmp_path / f"server.{kind}")
    options = ("--tls-cert", str(tmp_path / "server.pem"), "--tls-key", str(tmp_path / "server.key"))
    with running_server(tiny_models, *options) as server:
        old, new = keys / "ca.pem", keys / "other.pem"
        assert ask(server.address, old)[0] is grpc.StatusCode.OK
        assert ask(server.address, new)[0] is grpc.StatusCode.UNAVAILABLE
        shutil.copy(keys / "stranger.pem", tmp_path / "server.pem")
        # Files are checked when a client connects.
        wait_until(
            lambda: (
                ask(server.address, old)[0] is grpc.StatusCode.OK and "keeping the current certificate" in log(server)
            )
        )
        shutil.copy(keys / "stranger.key", tmp_path / "server.key")
        wait_until(lambda: ask(server.address, new)[0] is grpc.StatusCode.OK)
        assert ask(server.address, old)[0] is grpc.StatusCode.UNAVAILABLE
        assert "are not a certificate and its unencrypted private key in PEM" in log(server)


def log(server: ServerProcess) -> str:
    return server.log_file.read_text()


def test_tokens(guarded: ServerProcess) -> None:
    """Calls with a token of the file succeed, with any case of "Bearer"; the error of others says what to send."""
    for token in ("Bearer first-token", "bearer second-token"):
        assert ask(guarded.address, token=token) == (grpc.StatusCode.OK, "")
    wrong = (UNAUTHENTICATED, f"the token is not one that this server knows: {HOW}")
    for token in (
        "Bearer third-token",
        "Bearer first",
        "Bearer ",
        "first-token",
        "Basic first-token",
        "# for the tests",
    ):
        assert ask(guarded.address, token=token) == wrong
    assert ask(guarded.address) == (UNAUTHENTICATED, f"no token: {HOW}")
    assert not any(token in log(guarded) for token in ("first", "second", "third"))


def test_what_needs_a_token(guarded: ServerProcess) -> None:
    """Health checks need no token, for probes; reflection and streams need one."""
    with grpc.insecure_channel(guarded.address) as channel:
        assert HealthStub(channel).Check(HealthCheckRequest()).status == HealthCheckResponse.SERVING
        for call in (
            ServerReflectionStub(channel).ServerReflectionInfo(iter([ServerReflectionRequest(list_services="")])),
            PartedVAEServiceStub(channel).StreamFeatures(iter([pb.StreamFeaturesRequest()])),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                next(call)
            assert caught.value.code() is UNAUTHENTICATED


def test_tokens_are_reloaded(guarded: ServerProcess, tokens: Path) -> None:
    """A changed file is used after a second; an empty or invalid one keeps the previous tokens."""
    new = tokens.with_name("new")
    new.write_text("third-token\n")
    new.replace(tokens)
    wait_until(lambda: ask(guarded.address, token="Bearer third-token")[0] is grpc.StatusCode.OK)
    assert ask(guarded.address, token="Bearer first-token")[0] is UNAUTHENTICATED
    for content, complaint in (("", "contains no token"), ("two words\n", "line 1 of"), (None, "cannot read")):
        tokens.unlink() if content is None else tokens.write_text(content)

        def asked_in_vain(complaint: str = complaint) -> bool:
            assert ask(guarded.address, token="Bearer third-token")[0] is grpc.StatusCode.OK
            return complaint in log(guarded)

        wait_until(asked_in_vain)
    assert "two words" not in log(guarded)


def test_tokens_are_read_when_their_permissions_are_corrected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The content of the file is the same then. The reason is logged once."""
    monkeypatch.setattr(security, "CHECK_SECONDS", 0)
    path = tmp_path / "tokens"
    path.write_text("first\n")
    path.chmod(0o600)
    tokens = security.TokenFile(path)
    path.write_text("second\n")
    with monkeypatch.context() as patched:

        def refused(_: Path) -> bytes:
            raise PermissionError(errno.EACCES, "Permission denied")

        patched.setattr(Path, "read_bytes", refused)
        for _ in range(3):
            assert tokens.accepts("Bearer first")
    assert [record.getMessage() for record in caplog.records] == [
        f"keeping the current tokens: cannot read {path}: Permission denied"
    ]
    assert tokens.accepts("Bearer second")
    assert not tokens.accepts("Bearer first")


@pytest.mark.parametrize("front", ["grpcio", pytest.param("native", marks=pytest.mark.exhaustive)])
def test_denied_calls_are_counted(tiny_models: Path, tokens: Path, front: str) -> None:
    """By the names of the server's methods alone: a client could send any number of others."""
    options = ["--token-file", str(tokens), "--metrics-address", "127.0.0.1:0", "--front", front]
    with running_server(tiny_models, *options) as server:
        for _ in range(3):
            assert ask(server.address, token="Bearer wrong")[0] is UNAUTHENTICATED
        with grpc.insecure_channel(server.address) as channel:
            guessed: Any = channel.unary_unary("/partedvae.v1.PartedVAEService/Guessed")
            with pytest.raises(grpc.RpcError):
                guessed(b"")
        seen = metrics_of(server)
    counted = {name: value for name, value in seen.items() if "UNAUTHENTICATED" in name and "_count" in name}
    assert list(counted.values()) == [3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read tokens: No such file or directory"),
        ("", "tokens contains no token; write one per line, or omit --token-file"),
        ("token\nvery secret\n", "line 2 of tokens is not a token; write one per line, printable ASCII without spaces"),
        ("tökén\n", "line 1 of tokens is not a token; write one per line, printable ASCII without spaces"),
    ],
)
def test_bad_token_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, message: str) -> None:
    """A file that cannot be used is reported with the problem, but without its content."""
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("tokens").write_text(content, encoding="utf-8")
    with pytest.raises(SecurityError) as caught:
        TokenFile(Path("tokens"))
    assert str(caught.value) == message


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_token_file_may_be_one_of_windows(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "tokens").write_bytes("# ours\r\none\r\ntwo\r\n".encode(encoding))
    tokens = TokenFile(tmp_path / "tokens")
    assert [tokens.accepts(f"Bearer {token}") for token in ("one", "two", "three")] == [True, True, False]


@pytest.mark.parametrize(
    ("certificate", "key", "client_ca", "message"),
    [
        ("server.pem", "client.key", None, "server.pem and client.key are not a certificate and its unencrypted"),
        ("empty", "server.key", None, "empty and server.key are not a certificate and its unencrypted private key"),
        ("server.pem", "locked.key", None, "server.pem and locked.key are not a certificate and its unencrypted"),
        ("server.pem", "server.key", "empty", "empty holds no certificates in PEM"),
        ("server.pem", "nowhere", None, "cannot read nowhere: No such file or directory"),
    ],
)
def test_bad_certificates(
    keys: Path, monkeypatch: pytest.MonkeyPatch, certificate: str, key: str, client_ca: str | None, message: str
) -> None:
    """Files that are not certificates or do not belong together are named; there is no password prompt."""
    monkeypatch.chdir(keys)
    Path("empty").write_text("")
    openssl("pkcs8", "-topk8", "-in", "server.key", "-out", "locked.key", "-passout", "pass:secret")
    with pytest.raises(SecurityError, match=message):
        Certificates(Path(certificate), Path(key), Path(client_ca) if client_ca else None)


def test_a_bad_file_ends_the_command(tiny_models: Path, tmp_path: Path) -> None:
    """The command prints the reason without a traceback."""
    token_file = str(tmp_path / "nowhere")
    command = [sys.executable, *SERVE, str(tiny_models), "--address", "127.0.0.1:0", "--token-file", token_file]
    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert result.returncode == 1
    assert f"Error: cannot read {token_file}: No such file or directory" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.exhaustive
def test_tokens_in_plain_text(tiny_models: Path, tokens: Path) -> None:
    """Tokens without TLS on a reachable address cause a warning; on the loopback interface they do not."""
    warning = "tokens are sent to 0.0.0.0:0 in plain text"
    with running_server(tiny_models, "--token-file", str(tokens), "--address", "0.0.0.0:0") as server:
        assert warning in log(server)
    with running_server(tiny_models, "--token-file", str(tokens)) as server:
        assert "plain text" not in log(server)


@pytest.mark.parametrize(("mode", "warns"), [(0o600, False), (0o640, False), (0o644, True), (0o602, True)])
def test_secrets_that_others_can_read_are_warned_of(
    tokens: Path, keys: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int, warns: bool
) -> None:
    """Token files and private keys; a certificate is public."""
    key = tmp_path / "copy.key"
    shutil.copy(keys / "server.key", key)
    for path in (tokens, key):
        path.chmod(mode)
    TokenFile(tokens)
    Certificates(keys / "server.pem", key, None)
    remedy = "is open to every user of this machine: chmod o-rwx, or defaultMode 0440 of a Kubernetes secret"
    assert [record.getMessage() for record in caplog.records] == (
        [f"{tokens} {remedy}", f"{key} {remedy}"] if warns else []
    )
