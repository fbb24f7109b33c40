"""Tokens and TLS of both clients."""

import re
from pathlib import Path
from typing import Any

import grpc
import pytest

from partedvae import Client, InvalidRequestError
from partedvae.channel import call_metadata, channel_credentials
from tests.partedvae.conftest import Call
from tests.partedvae.fake_server import fake_server


def test_a_token_is_sent_with_each_call(call: Call, tmp_path: Path) -> None:
    """A str, the content of a file or the result of a function; the last two are read at each call."""
    file = tmp_path / "token"
    file.write_text("\n  of-the-file  \n")
    with fake_server() as server:
        for token in ("plain", file, lambda: "made"):
            call(server.address, "models", settings={"token": token})
        with Client(server.address, token=file) as client:
            for text in ("one", "two"):
                file.write_text(text)
                client.models()
        call(server.address, "models")
        assert server.tokens == [f"Bearer {t}" for t in ("plain", "of-the-file", "made", "one", "two")]


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("", "token= has no valid token: a token is printable ASCII without spaces"),
        ("two words", "token= has no valid token"),
        (lambda: "é", "the token function has no valid token"),
        (Path("/dev/null"), "the file /dev/null has no valid token"),
    ],
)
def test_invalid_tokens(token: Any, message: str) -> None:
    """The message has the source, and never the token."""
    with pytest.raises(InvalidRequestError, match=re.escape(message)):
        call_metadata(token)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_token_file_may_be_one_of_windows(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "token").write_bytes("secret\r\n".encode(encoding))
    assert call_metadata(tmp_path / "token") == (("authorization", "Bearer secret"),)


def test_a_token_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes("secr\u00e9t\n".encode("latin-1"))
    with pytest.raises(InvalidRequestError, match=r"token cannot be read as text: line 1 has the byte 0xe9") as caught:
        call_metadata(tmp_path / "token")
    assert "secr" not in str(caught.value)


def test_arguments_of_tls_that_exclude_each_other() -> None:
    with pytest.raises(InvalidRequestError, match="pass both cert= and key=, or neither"):
        channel_credentials(cert="cert.pem")
    with pytest.raises(InvalidRequestError, match="credentials cannot be used with tls, ca, cert and key"):
        channel_credentials(tls=True, credentials=grpc.ssl_channel_credentials())
    with pytest.raises(FileNotFoundError, match=re.escape("nowhere.pem")):
        channel_credentials(ca="nowhere.pem")
    assert channel_credentials() is None


@pytest.mark.parametrize(
    ("argument", "content", "label"),
    [
        ("ca", b"\x30\x82\x03", "CERTIFICATE"),
        ("ca", b"-----BEGIN EC PRIVATE KEY-----\n", "CERTIFICATE"),
        ("cert", b"-----BEGIN PRIVATE KEY-----\n", "CERTIFICATE"),
        ("key", b"subject=me\n-----BEGIN CERTIFICATE-----\n", "PRIVATE KEY"),
        ("key", b"", "PRIVATE KEY"),
    ],
)
def test_files_of_tls_that_are_not_pem(tmp_path: Path, argument: str, content: bytes, label: str) -> None:
    """Before anything connects: a file of another format, and a key in place of a certificate."""
    files = {"ca": b"CERTIFICATE", "cert": b"CERTIFICATE", "key": b"EC PRIVATE KEY"}
    for name, kind in files.items():
        (tmp_path / name).write_bytes(b"-----BEGIN " + kind + b"-----\n")
    ca, cert, key = (tmp_path / name for name in files)
    assert isinstance(channel_credentials(ca=ca, cert=cert, key=key), grpc.ChannelCredentials)
    bad = tmp_path / argument
    bad.write_bytes(content)
    message = f"{argument}= is the file {bad}, which has no PEM block of a {label.lower()} (-----BEGIN … {label}"
    with pytest.raises(InvalidRequestError, match=re.escape(message)):
        channel_credentials(ca=ca, cert=cert, key=key)
