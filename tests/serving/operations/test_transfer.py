"""Tests of `partedvae.serving.operations.transfer`, against the tiny model in NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from partedvae.results import ImageArray
from partedvae.serving.bundle import load_bundle
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.onnx.model import OnnxModel
from partedvae.serving.operations.latents import prior_modes
from partedvae.serving.operations.model import DirectModel
from partedvae.serving.operations.transfer import Style, StyleClasses, StyleImages, transfer
from tests.bundles import COLOURED

CONTENT, STYLE = COLOURED.random_images(3), COLOURED.random_images(2, seed=1)


def u_of(images: ImageArray) -> np.ndarray:
    encoded = COLOURED.encode(images)
    return np.concatenate([encoded["shape.u_mean"], encoded["colour.u_mean"]], axis=1)


Z = COLOURED.encode(CONTENT)["z_mean"]


@pytest.fixture(scope="module")
def model(two_models: Path) -> DirectModel:
    return DirectModel(OnnxModel.load(load_bundle(two_models / "shapes" / "1")))


def assert_image(actual: ImageArray, u: np.ndarray, z: np.ndarray) -> None:
    assert np.abs(actual.astype(int) - COLOURED.decode(u[np.newaxis], z[np.newaxis])[0]).max() <= 1


async def test_each_content_meets_each_style(model: DirectModel) -> None:
    """Row i, column j: z of content i, and all u of style j."""
    images = (await transfer(model, CONTENT, StyleImages(images=STYLE))).images

    assert images.shape == (3, 2, 10, 12, 3)
    for i in range(3):
        for j in range(2):
            assert_image(images[i, j], u_of(STYLE)[j], Z[i])


async def test_one_factor_alone(model: DirectModel) -> None:
    """What is not transferred stays the content's."""
    images = (await transfer(model, CONTENT, StyleImages(images=STYLE, factors=("colour",)))).images
    for i in range(3):
        for j in range(2):
            assert_image(images[i, j], np.append(u_of(CONTENT)[i, :2], u_of(STYLE)[j, 2]), Z[i])


async def test_pairs(model: DirectModel) -> None:
    """The n-th with the n-th, in one column."""
    images = (await transfer(model, CONTENT[:2], StyleImages(images=STYLE), pairs=True)).images

    assert images.shape == (2, 1, 10, 12, 3)
    for i in range(2):
        assert_image(images[i, 0], u_of(STYLE)[i], Z[i])


async def test_classes_give_the_means_of_their_priors(model: DirectModel) -> None:
    """Each style may name other factors; the rest is the content's."""
    styles = StyleClasses(choices=[{"shape": "heart"}, {"colour": "red", "shape": "square"}])
    images = (await transfer(model, CONTENT, styles)).images
    shape, colour = (prior_modes(factor).means for factor in model.manifest.factors)
    for i in range(3):
        assert_image(images[i, 0], np.append(shape[2], u_of(CONTENT)[i, 2]), Z[i])
        assert_image(images[i, 1], np.append(shape[0], colour[0]), Z[i])


@pytest.mark.parametrize(
    ("content", "style", "pairs", "message"),
    [
        (CONTENT, StyleImages(images=STYLE), True, "3 contents and 2 styles cannot be paired: pass as many of each"),
        (CONTENT[:0], StyleImages(images=STYLE), False, "0 contents and 2 styles: pass at least one of each"),
        (CONTENT, StyleClasses(choices=[]), False, "3 contents and 0 styles: pass at least one of each"),
        (CONTENT, StyleImages(images=STYLE, factors=("color",)), False, "no factor is named 'color'.*mean 'colour'"),
        (CONTENT, StyleClasses(choices=[{"shape": "star"}]), False, "no class of factor 'shape' is named 'star'"),
        (CONTENT, StyleClasses(choices=[{"shape": "heart"}, {}]), False, "style 1 names no class"),
        (CONTENT, StyleImages(images=STYLE), False, "3 contents with 2 styles make 6 images, above the limit of 5"),
    ],
)
async def test_bad_transfers(model: DirectModel, content: ImageArray, style: Style, pairs: bool, message: str) -> None:
    """Counts, factors, classes and the size of what is made are checked."""
    limit = 5 if "above the limit" in message else 6
    with pytest.raises(InvalidInputError, match=message):
        await transfer(model, content, style, pairs=pairs, max_images=limit)
