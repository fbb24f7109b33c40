import re
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from partedvae import (
    DeadlineError,
    Features,
    InvalidRequestError,
    NotFoundError,
    PartedVAEError,
    UnavailableError,
)
from partedvae.results import concatenate
from tests.bundles import GREY
from tests.partedvae.conftest import Call
from tests.processes import ServerProcess

pytestmark = pytest.mark.slow

NOWHERE = "127.0.0.1:1"


@pytest.mark.parametrize(
    ("method", "args", "kind", "message"),
    [
        ("features", (b"nonsense",), InvalidRequestError, "image 0: not an image"),
        ("features", ([],), InvalidRequestError, "there are no images in the call"),
        ("classify", (np.zeros((2, 8, 6)),), InvalidRequestError, "images are uint8"),
        ("classify", ("nowhere.png",), FileNotFoundError, "nowhere.png"),
        ("generate", (0,), InvalidRequestError, "a count of 0 images is out of range"),
        ("model_info", ("tinny",), NotFoundError, "no model is named 'tinny'"),
        ("model_info", ("tiny", 9), NotFoundError, "model 'tiny' has no version 9: there are [1]"),
    ],
)
def test_errors_have_a_type_and_the_servers_message(
    call: Call, server: ServerProcess, method: str, args: tuple[Any, ...], kind: type[Exception], message: str
) -> None:
    """Each failure raises the exception of its status, with the server's message."""
    with pytest.raises(kind, match=re.escape(message)):
        call(server.address, method, *args)


@pytest.mark.parametrize("classes", ["seven", {"digit": "seven"}])
def test_a_class_that_does_not_exist(call: Call, server: ServerProcess, classes: Any) -> None:
    """The client and the server both list the classes."""
    with pytest.raises(InvalidRequestError, match=r"'seven'[;:] .*0'?, '?1'?, '?2"):
        call(server.address, "generate", classes=classes)


def test_a_bad_image_of_a_later_message_has_the_callers_number(
    call: Call, server: ServerProcess, tmp_path: Path
) -> None:
    """Image 2,000 of a call is image 976 of its message; the error has 2,000 and the file name."""
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.fromarray(GREY.random_images(1)[0, ..., 0]).save(good)
    bad.write_bytes(b"%PDF-1.7")

    with pytest.raises(InvalidRequestError, match=re.escape(f"image 2000 ({bad}): PDF is not supported")):
        call(server.address, "classify", [good] * 2000 + [bad] + [good] * 3000)


@pytest.mark.parametrize("method", ["features", "generate", "models"])
def test_no_server(call: Call, method: str) -> None:
    """The error has the address and the command that starts a server; it is also a ConnectionError."""
    args = (GREY.random_images(5000),) if method == "features" else ()
    message = "no server answers at 127.0.0.1:1 (Connection refused); start one with 'partedvae serve MODELS_DIR'"
    with pytest.raises(UnavailableError, match=re.escape(message)) as caught:
        call(NOWHERE, method, *args)
    assert isinstance(caught.value, ConnectionError)
    assert isinstance(caught.value, PartedVAEError)


def test_the_timeout_is_kept(call: Call) -> None:
    """A server that accepts a connection and never answers raises DeadlineError."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        message = f"the server at {address} did not answer in time; try again with a longer timeout="
        with pytest.raises(DeadlineError, match=re.escape(message)):
            call(address, "features", GREY.random_images(2), settings={"timeout": 0.1})


def test_features_of_two_versions_do_not_mix() -> None:
    """Chunks of two versions raise an error instead of being joined."""
    with pytest.raises(PartedVAEError, match=re.escape("changed from version 1 to 2 during the call")):
        concatenate([Features(factors=(), model="tiny", version=version) for version in (1, 2)])
