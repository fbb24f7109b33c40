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
from partedvae.serving.operations.transfer import ClassesOfU, ImagesOfU, SourceOfU, transfer, transposed
from tests.bundles import COLOURED

U_IMAGES, Z_IMAGES = COLOURED.random_images(2, seed=1), COLOURED.random_images(3)


def u_of(images: ImageArray) -> np.ndarray:
    encoded = COLOURED.encode(images)
    return np.concatenate([encoded["shape.u_mean"], encoded["colour.u_mean"]], axis=1)


Z = COLOURED.encode(Z_IMAGES)["z_mean"]


@pytest.fixture(scope="module")
def model(two_models: Path) -> DirectModel:
    return DirectModel(OnnxModel.load(load_bundle(two_models / "shapes" / "1")))


def assert_image(actual: ImageArray, u: np.ndarray, z: np.ndarray) -> None:
    assert np.abs(actual.astype(int) - COLOURED.decode(u[np.newaxis], z[np.newaxis])[0]).max() <= 1


async def test_each_u_meets_each_z_as_in_figure_5(model: DirectModel) -> None:
    """Row i, column j: all u of image i of the leftmost column, and z of image j of the first row."""
    images = (await transfer(model, Z_IMAGES, ImagesOfU(images=U_IMAGES))).images

    assert images.shape == (2, 3, 10, 12, 3)
    for i in range(2):
        for j in range(3):
            assert_image(images[i, j], u_of(U_IMAGES)[i], Z[j])


async def test_the_layout_of_old_requests_is_transposed(model: DirectModel) -> None:
    """One row per z, one column per u."""
    result = await transfer(model, Z_IMAGES, ImagesOfU(images=U_IMAGES))
    former = transposed(result)

    assert (former.images.shape, former.model, former.version) == ((3, 2, 10, 12, 3), result.model, result.version)
    assert_image(former.images[2, 1], u_of(U_IMAGES)[1], Z[2])


async def test_one_factor_alone(model: DirectModel) -> None:
    """The u of other factors is that of the image that gives z."""
    images = (await transfer(model, Z_IMAGES, ImagesOfU(images=U_IMAGES, factors=("colour",)))).images
    for i in range(2):
        for j in range(3):
            assert_image(images[i, j], np.append(u_of(Z_IMAGES)[j, :2], u_of(U_IMAGES)[i, 2]), Z[j])


async def test_pairs(model: DirectModel) -> None:
    """The n-th with the n-th, in one column."""
    images = (await transfer(model, Z_IMAGES[:2], ImagesOfU(images=U_IMAGES), pairs=True)).images

    assert images.shape == (2, 1, 10, 12, 3)
    for i in range(2):
        assert_image(images[i, 0], u_of(U_IMAGES)[i], Z[i])


async def test_classes_give_the_means_of_their_priors(model: DirectModel) -> None:
    """Each row may name other factors; the rest is that of the image that gives z."""
    rows = ClassesOfU(choices=[{"shape": "heart"}, {"colour": "red", "shape": "square"}])
    images = (await transfer(model, Z_IMAGES, rows)).images
    shape, colour = (prior_modes(factor).means for factor in model.manifest.factors)
    for j in range(3):
        assert_image(images[0, j], np.append(shape[2], u_of(Z_IMAGES)[j, 2]), Z[j])
        assert_image(images[1, j], np.append(shape[0], colour[0]), Z[j])


@pytest.mark.parametrize(
    ("z_images", "source", "pairs", "message"),
    [
        (
            Z_IMAGES,
            ImagesOfU(images=U_IMAGES),
            True,
            "2 images for u and 3 images for z cannot be paired: pass as",
        ),
        (Z_IMAGES[:0], ImagesOfU(images=U_IMAGES), False, "2 images for u and 0 images for z: pass at least one of"),
        (Z_IMAGES, ClassesOfU(choices=[]), False, "0 classes for u and 3 images for z: pass at least one of each"),
        (Z_IMAGES, ImagesOfU(images=U_IMAGES, factors=("color",)), False, "no factor is named 'color'.*mean 'colour'"),
        (Z_IMAGES, ClassesOfU(choices=[{"shape": "star"}]), False, "no class of factor 'shape' is named 'star'"),
        (Z_IMAGES, ClassesOfU(choices=[{"shape": "heart"}, {}]), False, "entry 1 of the classes is empty: pass"),
        (Z_IMAGES, ImagesOfU(images=U_IMAGES), False, "u and 3 images for z make 6 images, above the limit of 5"),
    ],
)
async def test_bad_transfers(
    model: DirectModel, z_images: ImageArray, source: SourceOfU, pairs: bool, message: str
) -> None:
    """Counts, factors, classes and the size of what is made are checked."""
    limit = 5 if "above the limit" in message else 6
    with pytest.raises(InvalidInputError, match=message):
        await transfer(model, z_images, source, pairs=pairs, max_images=limit)
