"""Tests of traversals, against the tiny model in NumPy."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from partedvae.results import ImageArray
from partedvae.serving.bundle import load_bundle
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.onnx.model import OnnxModel
from partedvae.serving.operations.latents import prior_modes, reconstruct
from partedvae.serving.operations.model import DirectModel
from partedvae.serving.operations.sampling import generate
from partedvae.serving.operations.traverse import AlongClasses, AlongU, AlongZ, PriorBase, traverse
from tests.bundles import COLOURED

IMAGES = COLOURED.random_images(2)
ENCODED = COLOURED.encode(IMAGES)
U = np.concatenate([ENCODED["shape.u_mean"], ENCODED["colour.u_mean"]], axis=1)
Z = ENCODED["z_mean"]
SHAPES = ("square", "ellipse", "heart")


@pytest.fixture(scope="module")
def model(two_models: Path) -> DirectModel:
    return DirectModel(OnnxModel.load(load_bundle(two_models / "shapes" / "1")))


def assert_images(actual: ImageArray, expected: ImageArray) -> None:
    assert actual.shape == expected.shape
    assert np.abs(actual.astype(int) - expected).max() <= 1


async def test_z_goes_from_low_to_high_and_all_else_stays(model: DirectModel) -> None:
    """A row for each image and dimension; the columns are -2, -1, 0, 1, 2 whatever the image's own value."""
    traversed = await traverse(model, IMAGES, AlongZ(dimensions=(3, 0), steps=5, reach=2))

    assert traversed.images.shape == (4, 5, 10, 12, 3)
    assert [(row.base, row.dimension) for row in traversed.rows] == [(0, 3), (0, 0), (1, 3), (1, 0)]
    for row, images in zip(traversed.rows, traversed.images, strict=True):
        assert row.values.tolist() == [-2, -1, 0, 1, 2]
        z = np.repeat(Z[[row.base]], 5, axis=0)
        z[:, row.dimension] = row.values
        assert_images(images, COLOURED.decode(np.repeat(U[[row.base]], 5, axis=0), z))
    for factor in model.manifest.factors:
        expected = np.array(factor.class_names)[ENCODED[f"{factor.name}.probs"].argmax(axis=1)]
        np.testing.assert_array_equal(traversed.classes[factor.name], expected)


async def test_all_dimensions_are_the_default(model: DirectModel) -> None:
    """Nine columns from -2.5 to 2.5, a row for each dimension of z."""
    traversed = await traverse(model, IMAGES[:1], AlongZ())

    assert traversed.images.shape == (5, 9, 10, 12, 3)
    assert (traversed.rows[0].values[0], traversed.rows[0].values[4], traversed.rows[0].values[8]) == (-2.5, 0, 2.5)


async def test_u_goes_around_the_mode_of_the_images_class(model: DirectModel) -> None:
    """The columns are the mode's mean and so many of its standard deviations; other dimensions stay the image's."""
    traversed = await traverse(model, IMAGES, AlongU(factor="shape", dimensions=(1,), steps=3, reach=1.5))
    modes = prior_modes(model.manifest.factors[0])

    for base, (row, images) in enumerate(zip(traversed.rows, traversed.images, strict=True)):
        mode = SHAPES.index(traversed.classes["shape"][base])
        mean, deviation = modes.means[mode, 1], modes.deviations[mode, 1]
        values = np.array([mean - 1.5 * deviation, mean, mean + 1.5 * deviation])
        np.testing.assert_allclose(row.values, values, rtol=1e-6)
        u = np.repeat(U[[base]], 3, axis=0)
        u[:, 1] = values
        assert_images(images, COLOURED.decode(u, np.repeat(Z[[base]], 3, axis=0)))


async def test_the_second_factors_u_is_the_one_that_changes(model: DirectModel) -> None:
    traversed = await traverse(model, IMAGES[:1], AlongU(factor="colour", steps=2, reach=1))
    (row,) = traversed.rows
    u = np.repeat(U[:1], 2, axis=0)
    assert row.values is not None
    u[:, 2] = row.values
    assert_images(traversed.images[0], COLOURED.decode(u, np.repeat(Z[:1], 2, axis=0)))


async def test_classes_of_a_draw_are_what_generate_gives_for_each(model: DirectModel) -> None:
    """With the seed of a draw, each column is the image that generation gives for its class."""
    base = PriorBase(classes={"colour": "blue"}, seed=5, count=3)
    traversed = await traverse(model, base, AlongClasses(factor="shape"))

    assert traversed.class_names == SHAPES
    assert [(row.base, row.dimension, row.values.tolist()) for row in traversed.rows] == [
        (i, None, []) for i in range(3)
    ]
    for column, name in enumerate(traversed.class_names):
        expected = (await generate(model, 3, {"colour": "blue", "shape": name}, seed=5)).images
        assert_images(traversed.images[:, column], expected)
    assert traversed.classes["colour"].tolist() == ["blue"] * 3
    assert traversed.seed == 5


async def test_the_column_of_an_images_own_class_is_its_reconstruction(model: DirectModel) -> None:
    traversed = await traverse(model, IMAGES, AlongClasses(factor="shape"))
    expected = await reconstruct(model, IMAGES)
    for base, own in enumerate(traversed.classes["shape"]):
        assert_images(traversed.images[base, SHAPES.index(own)], expected[base])


@pytest.mark.parametrize(
    ("along", "message"),
    [
        (AlongZ(dimensions=(5,)), "z has no dimension 5: it has 5, counted from 0"),
        (AlongU(factor="shape", dimensions=(0, 2)), "u of factor 'shape' has no dimension 2: it has 2"),
        (AlongU(), r"the model has several factors; choose one of \['shape', 'colour'\]"),
        (AlongU(factor="shap"), "no factor is named 'shap': .*did you mean 'shape'"),
        (AlongClasses(factor="size"), r"no factor is named 'size': there are \['shape', 'colour'\]"),
        (AlongZ(steps=1), "steps of 1 are out of range: choose 2 to 64"),
        (AlongZ(steps=65), "steps of 65 are out of range: choose 2 to 64"),
        (AlongZ(reach=-1), "a reach of -1 is out of range: choose more than 0 and at most 10 standard deviations"),
        (AlongZ(reach=11), "a reach of 11 is out of range"),
        (AlongZ(reach=math.nan), "a reach of nan is out of range"),
        (AlongZ(steps=11), "a grid of 2 bases with 5 rows each and 11 columns is out of range: .* at most 100 images"),
    ],
)
async def test_bad_traversals(model: DirectModel, along: AlongZ | AlongU | AlongClasses, message: str) -> None:
    """Factors, dimensions, steps, reach and the size of the grid are checked."""
    with pytest.raises(InvalidInputError, match=message):
        await traverse(model, IMAGES, along, max_images=100)


async def test_bad_bases(model: DirectModel) -> None:
    for base, message in (
        (PriorBase(classes={}, seed=0, count=0), "a grid of 0 bases"),
        (PriorBase(classes={"shape": "hart"}, seed=0), "no class of factor 'shape' is named 'hart'"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            await traverse(model, base, AlongZ())


async def test_results_have_the_dtype_of_images(model: DirectModel) -> None:
    traversed = await traverse(model, PriorBase(classes={}, seed=1), AlongClasses(factor="colour"))
    assert traversed.images.dtype == np.uint8
