"""Arguments of another type or out of range, in both clients: an error that names them, and nothing is sent."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from partedvae import AsyncClient, Client, InvalidRequestError
from partedvae.arguments import check_integer, check_integers, check_names, check_positive
from partedvae.serving import load
from tests.bundles import COLOURED
from tests.partedvae.conftest import Call

NOBODY = "127.0.0.1:1"
CASES: list[tuple[str, tuple[Any, ...], dict[str, Any], str]] = [
    ("generate", ("a",), {}, "count is 'a' (str); it must be an integer, 0 to 4294967295"),
    ("generate", (None,), {}, "count is None; it must be an integer"),
    ("generate", (2.0,), {}, "count is 2.0 (float); it must be an integer"),
    ("generate", (True,), {}, "count is True (bool); it must be an integer"),
    ("generate", (-1,), {}, "count is -1; it must be 0 to 4294967295"),
    ("generate", (1,), {"seed": "0"}, "seed is '0' (str); it must be an integer, 0 to 18446744073709551615"),
    ("generate", (1,), {"classes": {"colour": 1}}, "classes has 1, which is not a str"),
    ("generate", (1,), {"classes": {1: "red"}}, "classes has 1, which is not a str"),
    ("traverse", (), {"along": None}, "along is None; choose from z, u, classes"),
    ("traverse", (), {"along": "u", "factor": 1}, "factor is 1 (int); it must be a str"),
    ("traverse", (), {"dimensions": 3}, "dimensions is 3 (int); pass a list, such as [0, 1]"),
    ("traverse", (), {"dimensions": "12"}, "dimensions is '12' (str); pass a list"),
    ("traverse", (), {"dimensions": [0.5]}, "an entry of dimensions is 0.5 (float); it must be an integer"),
    ("traverse", (), {"steps": "9"}, "steps is '9' (str); it must be an integer"),
    ("traverse", (), {"steps": 1}, "steps is 1; it must be at least 2"),
    ("traverse", (), {"count": "9"}, "count is '9' (str); it must be an integer"),
    ("traverse", (), {"reach": "2"}, "reach is '2' (str); it must be a number of standard deviations"),
    ("traverse", (), {"reach": float("nan")}, "reach is nan; it must be more than 0 standard deviations"),
    ("traverse", (), {"reach": float("inf")}, "reach is inf; it must be more than 0 standard deviations, and finite"),
]
INCLUDES: list[tuple[Any, str]] = [
    (None, "include is None; pass a list of names"),
    ("u_mean", "include is 'u_mean' (str); pass a list of names, such as ['u_mean']"),
    (b"u_mean", "include is b'u_mean' (bytes); pass a list of names"),
    (3, "include is 3 (int); pass a list of names"),
    (["u_mean", None], "an entry of include is None; it must be a str"),
    ([1], "an entry of include is 1 (int); it must be a str"),
]
SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"timeout": "5"}, "timeout is '5' (str); it must be a number of seconds"),
    ({"timeout": 0}, "timeout is 0; it must be more than 0 seconds, and finite"),
    ({"timeout": -1.5}, "timeout is -1.5; it must be more than 0 seconds"),
    ({"timeout": float("nan")}, "timeout is nan; it must be more than 0 seconds"),
    ({"timeout": float("inf")}, "timeout is inf; it must be more than 0 seconds, and finite"),
    ({"connections": 0}, "connections is 0; it must be at least 1"),
    ({"connections": "2"}, "connections is '2' (str); it must be an integer, at least 1"),
    ({"model": None}, "model is None; it must be a str"),
    ({"model": 3}, "model is 3 (int); it must be a str"),
    ({"version": "1"}, "version is '1' (str); it must be an integer, 0 to 9223372036854775807"),
    ({"version": -1}, "version is -1; it must be 0 to 9223372036854775807"),
    ({"ca": 3}, "ca is 3 (int); it must be a path"),
    ({"cert": b"x", "key": "y"}, "cert is b'x' (bytes); it must be a path"),
    ({"token": b"secret"}, "token= is of type bytes; pass the token as a str, the path of its file, or a function"),
    ({"token": 3}, "token= is of type int; pass the token as a str"),
    ({"credentials": "x"}, "credentials= is of type str; pass grpc.ChannelCredentials, or ca, cert and key"),
    ({"version": 2**63}, "version is 9223372036854775808; it must be 0 to 9223372036854775807"),
]


@pytest.mark.parametrize(("method", "arguments", "options", "message"), CASES)
def test_arguments_of_a_call(
    call: Call, two_models: Path, method: str, arguments: tuple[Any, ...], options: dict[str, Any], message: str
) -> None:
    """The same in both clients, without a server, and in process."""
    with pytest.raises(InvalidRequestError, match=re.escape(message)):
        call(NOBODY, method, *arguments, **options)
    with pytest.raises(InvalidRequestError, match=re.escape(message)):
        getattr(load(two_models / "shapes"), method)(*arguments, **options)


@pytest.mark.parametrize(("include", "message"), INCLUDES)
def test_include(call: Call, two_models: Path, include: Any, message: str) -> None:
    """A str is not read letter by letter."""
    images = COLOURED.random_images(1)
    for features in (
        lambda: call(NOBODY, "features", images, include=include),
        lambda: Client(NOBODY).stream_features(images, include=include),
        lambda: load(two_models / "shapes").features(images, include=include),
    ):
        with pytest.raises(InvalidRequestError, match=re.escape(message)):
            features()


@pytest.mark.parametrize(("settings", "message"), SETTINGS)
def test_arguments_of_a_client(settings: dict[str, Any], message: str) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(InvalidRequestError, match=re.escape(message)):
            kind(NOBODY, **settings)


def test_factors_of_a_transfer(two_models: Path) -> None:
    images = COLOURED.random_images(1)
    with pytest.raises(InvalidRequestError, match=re.escape("factors is 'shape' (str); pass a list of names")):
        load(two_models / "shapes").transfer(z_images=images, u_images=images, factors="shape")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3,), "path is 3 (int); it must be a path"),
        (("shapes", "1"), "version is '1' (str); it must be an integer, at least 0"),
        (("shapes", -1), "version is -1; it must be at least 0"),
        (("shapes", 0, {"device": "gpu"}), "device is 'gpu'; choose from auto, cpu, cuda, tensorrt"),
        (("shapes", 0, {"device": "cdua"}), "choose from auto, cpu, cuda, tensorrt; did you mean 'cuda'?"),
        (("shapes", 0, {"threads": 0}), "threads is 0; it must be at least 1"),
        (("shapes", 0, {"threads": "2"}), "threads is '2' (str); it must be an integer, at least 1"),
    ],
)
def test_arguments_of_load(arguments: tuple[Any, ...], message: str) -> None:
    options = arguments[2] if len(arguments) > 2 else {}
    with pytest.raises(InvalidRequestError, match=re.escape(message)):
        load(*arguments[:2], **options)


def test_numbers_of_numpy_are_accepted() -> None:
    check_integer("count", np.int64(3), 1)
    check_positive("timeout", np.float32(3), "seconds")
    assert check_integers("dimensions", np.array([1, 0]), 1) == [1, 0]
    assert check_names("include", (name for name in ("a", "b"))) == ["a", "b"]
