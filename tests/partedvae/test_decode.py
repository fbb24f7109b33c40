"""Images of given latents through both clients and a real server."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from partedvae import AsyncClient, InvalidRequestError
from partedvae.latents import latent_rows
from partedvae.serving import LocalModel, load
from tests.bundles import COLOURED, GREY
from tests.partedvae.conftest import Call
from tests.processes import ServerProcess, running_server

SHAPES = {"model": "shapes"}
U, Z = COLOURED.random_latents(3)


@pytest.fixture(scope="module")
def model(two_models: Path) -> LocalModel:
    """Return the model "shapes" of `two_model_server`, in this process."""
    return load(two_models / "shapes", device="cpu")


@pytest.mark.parametrize(
    ("u", "z"),
    [
        (U, Z),
        (U.astype(np.float64), Z.astype(np.float64)),
        (U.tolist(), Z.tolist()),
        ({"shape": U[:, :2], "colour": U[:, 2:]}, Z),
        ({"colour": U[:, 2:].tolist(), "shape": np.asfortranarray(U[:, :2])}, Z[:, ::-1][:, ::-1]),
    ],
    ids=["arrays", "float64", "lists", "factors", "other order"],
)
def test_latents_of_every_kind(call: Call, two_model_server: ServerProcess, model: LocalModel, u: Any, z: Any) -> None:
    """The same images, uint8 at the model's size, bit for bit those of the model in this process."""
    images = call(two_model_server.address, "decode", u, z, settings=SHAPES)
    assert (images.shape, images.dtype) == ((3, 10, 12, 3), np.uint8)
    assert images.flags.writeable
    assert np.abs(images.astype(int) - COLOURED.decode(U, Z)).max() <= 1
    np.testing.assert_array_equal(images, model.decode(u, z))


def test_one_row_needs_no_axis_of_images(call: Call, two_model_server: ServerProcess, model: LocalModel) -> None:
    expected = model.decode(U[:1], Z[:1])
    for u in (U[0], {"shape": U[0, :2], "colour": U[0, 2:]}):
        images = call(two_model_server.address, "decode", u, Z[0], settings=SHAPES)
        np.testing.assert_array_equal(images, expected)
    assert expected.shape == (1, 10, 12, 3)


def test_features_give_reconstructions(call: Call, server: ServerProcess) -> None:
    images = GREY.random_images(20)
    features = call(server.address, "features", images, include=["u_mean", "z_mean"])
    np.testing.assert_array_equal(
        call(server.address, "decode", features.u, features.z), call(server.address, "reconstruct", images)
    )


def test_many_rows_are_sent_in_several_messages(call: Call, two_model_server: ServerProcess, model: LocalModel) -> None:
    """A server with at most 100 images per request returns those of 1,050 rows, in order."""
    u, z = COLOURED.random_latents(1050, seed=4)
    images = call(two_model_server.address, "decode", u, z, settings=SHAPES)
    np.testing.assert_array_equal(images, model.decode(u, z))


@pytest.mark.slow
def test_rows_are_grouped_by_the_size_of_the_reply(call: Call, tmp_path: Path) -> None:
    """1 MiB holds 300 images of 60 x 58, of which the server would accept 4,096 per request."""
    large = type(GREY)(height=60, width=58)
    large.write(tmp_path / "large")
    u, z = large.random_latents(700)
    with running_server(tmp_path, "--max-message-mb", "1") as server:
        images = call(server.address, "decode", u, z)
    np.testing.assert_array_equal(images, load(tmp_path / "large").decode(u, z))


async def test_concurrent_calls_get_their_own_images(two_model_server: ServerProcess, model: LocalModel) -> None:
    async with AsyncClient(two_model_server.address, model="shapes", coalesce=True) as client:
        latents = [COLOURED.random_latents(2, seed=seed) for seed in range(40)]
        results = await asyncio.gather(*(client.decode(u, z) for u, z in latents))
    for (u, z), images in zip(latents, results, strict=True):
        np.testing.assert_array_equal(images, model.decode(u, z))


MASKED = np.ma.masked_array(Z, mask=Z > 1)
NAN = np.where(Z[2, 4] == Z, np.nan, Z)
INVALID: list[tuple[Any, Any, str]] = [
    (U[:, :2], Z, "u has the shape [3, 2]; it must be [images, 3] (shape 2, colour 1)"),
    (U, Z[:, :4], "z has the shape [3, 4]; it must be [images, 5]"),
    (U[None], Z, "u has the shape [1, 3, 3]; it must be [images, 3] (shape 2, colour 1)"),
    (0.5, Z, "u has the shape []; it must be [images, 3]"),
    (U[:2], Z, "u has 2 rows and z has 3; each needs one row per image"),
    (U[:0], Z[:0], "u and z have no rows; pass those of at least one image"),
    ([[]], [[]], "u has the shape [1, 0]; it must be [images, 3]"),
    (U, NAN, "dimension 4 of z of image 2 is nan; it must be a finite float32"),
    (U.astype(np.float64) * 1e200, Z, "dimension 0 of u of image 0 is"),
    (U, MASKED, "z has masked values; fill them: x.filled(0)"),
    (U.astype(str), Z, "u has the type <U32; it must be numbers, an array of float32"),
    (U, None, "z has the type object; it must be numbers, an array of float32"),
    (U, [[1, 2], [3]], "z cannot be made an array: "),
    ({"shape": U[:, :2]}, Z, "u has nothing for ['colour']; pass u of every factor: ['shape', 'colour']"),
    (
        {"shape": U[:, :2], "color": U[:, 2:]},
        Z,
        "u has 'color'; the factors of the model are ['shape', 'colour']; did you mean 'colour'?",
    ),
    ({"shape": U[:, :2], 3: U}, Z, "u has 3; the factors of the model are ['shape', 'colour']"),
    ({"shape": U[:, :1], "colour": U[:, 1:]}, Z, "u['shape'] has the shape [3, 1]; it must be [images, 2]"),
    (
        {"shape": U[:, :2], "colour": U[:2, 2:]},
        Z,
        "the factors of u differ in their rows: {'shape': 3, 'colour': 2}; each needs one row per image",
    ),
]


@pytest.mark.parametrize(("u", "z", "message"), INVALID)
def test_invalid_latents(
    call: Call, two_model_server: ServerProcess, model: LocalModel, u: Any, z: Any, message: str
) -> None:
    """The same error from both clients, and in process."""
    with pytest.raises(InvalidRequestError, match=f"^{re.escape(message)}"):
        call(two_model_server.address, "decode", u, z, settings=SHAPES)
    with pytest.raises(InvalidRequestError, match=f"^{re.escape(message)}"):
        model.decode(u, z)


def test_rows_are_those_that_were_given() -> None:
    """As float32, with factors in the model's order."""
    u, z = latent_rows({"colour": [7], "shape": [1, 2]}, np.arange(5), COLOURED.manifest())
    assert (u.tolist(), z.tolist()) == ([[1, 2, 7]], [[0, 1, 2, 3, 4]])
    assert u.dtype == z.dtype == np.float32
