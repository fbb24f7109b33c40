"""Retries, tokens and TLS of both clients."""

import re
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from partedvae import Client, InvalidRequestError, OverloadedError
from partedvae.channel import call_metadata, channel_credentials
from tests.partedvae.conftest import Call
from tests.partedvae.fake_server import fake_server

OVERLOADED = (grpc.StatusCode.RESOURCE_EXHAUSTED, "100 images wait already", 10)
STOPPING = (grpc.StatusCode.UNAVAILABLE, "the server is stopping", None)


@pytest.mark.parametrize("method", ["models", "features"])
def test_overload_and_stops_are_tried_again(call: Call, method: str) -> None:
    """Three refusals are not seen by the caller, also of a chunk that is larger than gRPC keeps by itself."""
    args = (np.zeros((1, 1500, 2000), np.uint8),) if method == "features" else ()
    with fake_server(OVERLOADED, STOPPING, OVERLOADED) as server:
        call(server.address, method, *args)
        assert server.calls == 4


def test_overload_that_stays_is_an_error_with_the_servers_advice(call: Call) -> None:
    """After four times the error tells in how many seconds the server thinks to have room."""
    with fake_server(*[OVERLOADED] * 9) as server:
        with pytest.raises(OverloadedError, match="100 images wait already") as caught:
            call(server.address, "models")
        assert server.calls == 4
    assert caught.value.retry_after == 0.01


@pytest.mark.parametrize(
    "refusal",
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "the message is too large", -1),
        (grpc.StatusCode.INVALID_ARGUMENT, "no images", None),
        (grpc.StatusCode.INTERNAL, "see the log", None),
    ],
)
def test_what_repetition_does_not_mend_is_not_repeated(call: Call, refusal: Any) -> None:
    with fake_server(refusal, refusal) as server:
        with pytest.raises(Exception, match=refusal[1]):
            call(server.address, "models")
        assert server.calls == 1


def test_a_token_is_sent_with_each_call(call: Call, tmp_path: Path) -> None:
    """As it is, from a file or from a function; file and function are asked each time."""
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
        ("", "token gives no token: it has to be printable ASCII without spaces"),
        ("two words", "token gives no token"),
        (lambda: "é", "the token's function gives no token"),
        (Path("/dev/null"), "the file /dev/null gives no token"),
    ],
)
def test_what_is_no_token(token: Any, message: str) -> None:
    """The message names where it came from, and never the token."""
    with pytest.raises(InvalidRequestError, match=re.escape(message)):
        call_metadata(token)


def test_arguments_of_tls_that_do_not_go_together() -> None:
    with pytest.raises(InvalidRequestError, match="give both cert and key, or neither"):
        channel_credentials(cert="cert.pem")
    with pytest.raises(InvalidRequestError, match="credentials do not go with tls, ca, cert and key"):
        channel_credentials(tls=True, credentials=grpc.ssl_channel_credentials())
    with pytest.raises(FileNotFoundError, match=re.escape("nowhere.pem")):
        channel_credentials(ca="nowhere.pem")
    assert channel_credentials() is None
