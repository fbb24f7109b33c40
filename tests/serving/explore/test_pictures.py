"""Tests of the plain routes for pictures: pixels, caching, and bad addresses."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image

from partedvae.errors import InvalidRequestError
from partedvae.model_results import ModelDetails
from partedvae.results import ImageArray
from partedvae.serving.explore.context import Context
from partedvae.serving.explore.model import AsyncLocalModel, ModelAccess
from partedvae.serving.explore.pictures import routes
from partedvae.serving.explore.pictures.png import enlarged, fingerprint
from partedvae.serving.explore.pictures.routes import add_picture_routes
from partedvae.serving.local import LocalModel, load
from tests.bundles import GREY, TinyFactor, TinyModel
from tests.serving.explore.explorer import Explorer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tiny_models: object) -> LocalModel:
    """Load the model of `grey_explorer`."""
    return load(f"{tiny_models}/tiny")


class OtherModel(AsyncLocalModel):
    """A server that has replaced its model after the first question for it."""

    def __init__(self, model: LocalModel) -> None:
        super().__init__(model)
        self.asked = 0

    async def model_info(self) -> ModelDetails:
        self.asked += 1
        return dataclasses.replace(await super().model_info(), version=min(self.asked, 2))


async def get(access: ModelAccess, path: str) -> httpx.Response:
    """Return the answer of the routes alone, in this process."""
    app = FastAPI()
    add_picture_routes(app, Context(model=access))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://pictures") as client:
        return await client.get(path)


def read(content: bytes) -> ImageArray:
    """Return the pixels of a PNG file."""
    return np.asarray(Image.open(io.BytesIO(content)))


def test_generated_images_are_those_of_the_model(grey_explorer: Explorer, model: LocalModel) -> None:
    """Side by side, in the order of the model."""
    response = httpx.get(f"{grey_explorer.url}/generate.png?class=7&seed=5&count=4&columns=2")

    assert response.headers["content-type"] == "image/png"
    expected = model.generate(4, classes="7", seed=5).images[..., 0]
    pixels = read(response.content)
    assert pixels.shape == (16, 12)
    np.testing.assert_array_equal(pixels[:8, 6:], expected[1])
    np.testing.assert_array_equal(pixels[8:, :6], expected[2])


def test_each_class_is_a_row(coloured_explorer: Explorer, two_models: object) -> None:
    """The classes of one factor, combined with a class of another."""
    response = httpx.get(f"{coloured_explorer.url}/generate.png?each=shape&class=colour%3Dblue&seed=2&count=5")

    shapes = load(f"{two_models}/shapes")
    expected = [shapes.generate(5, classes=[name, "blue"], seed=2).images for name in ("square", "ellipse", "heart")]
    pixels = read(response.content)
    assert pixels.shape == (30, 60, 3)
    np.testing.assert_array_equal(pixels[20:, 12:24], expected[2][1])


def test_browsers_keep_pictures_of_the_same_model_only(grey_explorer: Explorer) -> None:
    """Addresses without the fingerprint of the model, or with another one, are not cached."""
    page = httpx.get(f"{grey_explorer.url}/generate").text
    fingerprint = page.partition("m=")[2][:12]

    def caching(parameters: str) -> str:
        return httpx.get(f"{grey_explorer.url}/generate.png?{parameters}").headers["cache-control"]

    assert caching(f"m={fingerprint}") == "private, max-age=31536000, immutable"
    assert caching("m=0123456789ab") == "no-store"
    assert caching("seed=1") == "no-store"


async def test_pictures_of_a_replaced_model_are_not_kept(model: LocalModel) -> None:
    """Before the pages know that it was replaced: their URLs have the fingerprint of the model before."""
    access = ModelAccess(OtherModel(model), "model")
    before = await access.ask()
    assert before is not None

    response = await get(access, f"/generate.png?m={fingerprint(before)}")

    assert (response.status_code, response.headers["cache-control"]) == (200, "no-store")


async def test_combinations_are_counted_before_they_are_made(tmp_path: Path) -> None:
    """Of 16 factors with 4 classes each."""
    factors = tuple(TinyFactor(name=f"f{k}", class_names=tuple("abcd"), u_dim=1) for k in range(16))
    TinyModel(factors=factors).write(tmp_path / "many")
    access = ModelAccess(AsyncLocalModel(load(tmp_path / "many")), "many")
    await access.ask()

    response = await get(access, "/generate.png?" + "&".join(f"class={f.name}={c}" for f in factors for c in "abcd"))

    assert response.status_code == 400
    assert response.text == "1 x 4,294,967,296 images are more than 2,500; request fewer"


async def test_pictures_of_too_many_pixels_are_refused(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "MAX_PIXELS", 100)
    access = ModelAccess(AsyncLocalModel(load(tiny_models / "tiny")), "tiny")
    await access.ask()

    response = await get(access, "/generate.png?class=7&count=2")
    assert response.status_code == 200
    response = await get(access, "/generate.png?class=7&count=3")

    assert response.status_code == 400
    assert response.text == "3 x 1 images of 6 x 8 pixels have more than 100 pixels; request fewer"


def test_classes_that_are_named_twice_are_one_row(grey_explorer: Explorer) -> None:
    response = httpx.get(f"{grey_explorer.url}/generate.png?class=7&class=7&each=digit&class=digit%3D7&count=2")

    # One each for "7" and for the ten classes of the factor.
    assert read(response.content).shape == (11 * 8, 2 * 6)


def test_large_enlargements_are_refused() -> None:
    """Before they are made."""
    picture = Image.new("L", (2000, 1500))

    with pytest.raises(InvalidRequestError, match=re.escape("scale=32 makes 64,000 x 48,000 pixels, which are more")):
        enlarged(picture, 32)
    assert enlarged(picture, 2).size == (4000, 3000)


def test_downloads_have_a_safe_name(grey_explorer: Explorer) -> None:
    response = httpx.get(f"{grey_explorer.url}/generate.png?labelled=1&each=digit&download=a/b%0d%0a%22c")

    assert response.headers["content-disposition"] == 'attachment; filename="a-b---c.png"'
    assert read(response.content).shape[0] > 10 * 64


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("class=eleven", "the model has no class 'eleven'; its classes are 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        ("each=colour", "the model has no factor 'colour'; its factors are digit"),
        ("count=0", "count: Input should be greater than or equal to 1"),
        ("count=abc", "count: Input should be a valid integer"),
        ("seed=-1", "seed: Input should be greater than or equal to 0"),
    ],
)
def test_bad_addresses_are_named(grey_explorer: Explorer, parameters: str, message: str) -> None:
    response = httpx.get(f"{grey_explorer.url}/generate.png?{parameters}")

    assert response.status_code == 400
    assert message in response.text
    assert response.headers["content-type"].startswith("text/plain")


def test_decoded_latents_are_those_of_the_model(grey_explorer: Explorer, model: LocalModel) -> None:
    response = httpx.get(f"{grey_explorer.url}/decode.png?u=0.5,-1,2&z=0,0.25,-3,1e-1")

    expected = model.decode([0.5, -1, 2], [0, 0.25, -3, 0.1])[0, ..., 0]
    np.testing.assert_array_equal(read(response.content), expected)


def test_strips_are_those_of_traverse(grey_explorer: Explorer, model: LocalModel) -> None:
    """Rows of z around zero, of u around the mode of the class, and of the classes."""
    base = model.features(GREY.random_images(1), include=["probs", "u_mean", "z_mean"])
    assert base.z is not None
    named = base.classes[0]
    latents = "&".join(f"{name}={','.join(map(str, row))}" for name, row in (("u", base.u[0]), ("z", base.z[0])))
    for along in ("z", "u", "classes"):
        factor = "" if along == "z" else "digit"
        parameters = f"{latents}&class={named}&along={along}&factor={factor}"
        pixels = read(httpx.get(f"{grey_explorer.url}/strips.png?{parameters}").content)
        expected = model.traverse(GREY.random_images(1), along=along).images[..., 0]
        rows, columns, height, width = expected.shape
        np.testing.assert_array_equal(pixels, expected.swapaxes(1, 2).reshape(rows * height, columns * width))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("decode.png?u=1,2&z=0,0,0,0", "u has 2 numbers; the model has 3 dimensions of u"),
        ("decode.png?u=1,2,3&z=", "z has 0 numbers; the model has 4 dimensions of z"),
        ("decode.png?u=1,2,x&z=0,0,0,0", "u='1,2,x' is not a list of numbers such as 0.5,-1,2"),
        ("decode.png?u=1,2,nan&z=0,0,0,0", "u has numbers that are not finite"),
        ("decode.png?u=1,2,1e39&z=0,0,0,0", "u has numbers that are not finite"),
        ("decode.png?u=1,2,3&z=0,0,0,0&scale=33", "scale: Input should be less than or equal to 32"),
        ("strips.png?u=1,2,3&z=0,0,0,0&along=y", "along='y' does not exist; choose one of z, u, classes"),
        ("strips.png?u=1,2,3&z=0,0,0,0&along=u&factor=size", "size"),
        ("strips.png?u=1,2,3&z=0,0,0,0&class=12", "the model has no class '12'"),
    ],
)
def test_bad_latents_are_named(grey_explorer: Explorer, path: str, message: str) -> None:
    response = httpx.get(f"{grey_explorer.url}/{path}")

    assert response.status_code == 400
    assert message in response.text
