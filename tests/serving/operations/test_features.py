"""Tests of features, classes, reconstruction and generation, against the tiny model in NumPy."""

from __future__ import annotations

import gc
import re
import weakref
from pathlib import Path

import numpy as np
import pytest

from partedvae.results import FloatArray
from partedvae.serving.bundle import load_bundle
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.onnx.model import OnnxModel
from partedvae.serving.operations.features import OUTPUTS, classify, features
from partedvae.serving.operations.latents import decode, posterior_means, reconstruct
from partedvae.serving.operations.model import DirectModel
from partedvae.serving.operations.sampling import draw, generate
from tests.bundles import COLOURED

IMAGES = COLOURED.random_images(9)
EXPECTED = COLOURED.encode(IMAGES)
SCORES = COLOURED.score(IMAGES)


@pytest.fixture(scope="module")
def model(two_models: Path) -> DirectModel:
    return DirectModel(OnnxModel.load(load_bundle(two_models / "shapes" / "1")))


def assert_close(actual: FloatArray | None, expected: FloatArray) -> None:
    assert actual is not None
    np.testing.assert_allclose(actual, expected, atol=1e-5)


async def test_class_related_features_are_the_default(model: DirectModel) -> None:
    """Without include: probabilities and u of each factor, and no z."""
    result = await features(model, IMAGES)
    assert (result.model, result.version) == ("shapes", 1)
    assert [f.name for f in result] == ["shape", "colour"]
    for factor in result:
        assert factor.u_logvar is None
        assert_close(factor.probs, EXPECTED[f"{factor.name}.probs"])
        assert_close(factor.u_mean, EXPECTED[f"{factor.name}.u_mean"])
    assert result.z is None
    assert result.z_logvar is None
    assert result["shape"].class_names == ("square", "ellipse", "heart")


async def test_given_latents_are_decoded(model: DirectModel) -> None:
    """Images are those of the decoder; the posterior means of images give their reconstructions."""
    u, z = COLOURED.random_latents(9)
    decoded = await decode(model, u, z, max_images=9)
    assert np.abs(decoded.astype(int) - COLOURED.decode(u, z)).max() <= 1
    means = await posterior_means(model, IMAGES)
    np.testing.assert_array_equal(await decode(model, means.u, means.z), await reconstruct(model, IMAGES))


U, Z = COLOURED.random_latents(3)


@pytest.mark.parametrize(
    ("u", "z", "message"),
    [
        (U[:, :2], Z, "u has the shape [3, 2]; it must be [images, 3] (shape 2, colour 1)"),
        (U, Z[:, 1:], "z has the shape [3, 4]; it must be [images, 5]"),
        (U[:2], Z, "u has 2 rows and z has 3; each needs one row per image"),
        (U[:0], Z[:0], "u and z have no rows; pass those of at least one image"),
        (
            np.repeat(U, 2, axis=0),
            np.repeat(Z, 2, axis=0),
            "u and z of 6 images are above the limit of 5 per request; send several requests",
        ),
        (np.where(U[1, 2] == U, np.float32("nan"), U), Z, "dimension 2 of u of image 1 is nan; it must be a finite"),
        (U, np.where(Z[2, 0] == Z, np.float32("-inf"), Z), "dimension 0 of z of image 2 is -inf; it must be a finite"),
    ],
)
async def test_latents_that_cannot_be_decoded(model: DirectModel, u: FloatArray, z: FloatArray, message: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^{re.escape(message)}"):
        await decode(model, u, z, max_images=5)


async def test_all_outputs(model: DirectModel) -> None:
    """All outputs can be included, in any order."""
    result = await features(model, IMAGES, list(reversed(OUTPUTS)))
    assert_close(result.z, EXPECTED["z_mean"])
    assert_close(result.z_logvar, EXPECTED["z_logvar"])
    assert_close(result.reconstruction_error, SCORES["reconstruction_error"])
    assert_close(result.negative_elbo, SCORES["negative_elbo"])
    assert_close(result["colour"].u_logvar, EXPECTED["colour.u_logvar"])


async def test_z_alone(model: DirectModel) -> None:
    """Outputs that are not included are None, also in the factors."""
    result = await features(model, IMAGES, ["z_mean"])
    assert result.z is not None
    assert result["shape"].probs is None


@pytest.mark.parametrize(
    ("include", "message"),
    [
        ([], "include is empty; choose from"),
        (["u_men"], "include has 'u_men', which is no output: .*did you mean 'u_mean'"),
    ],
)
async def test_bad_include(model: DirectModel, include: list[str], message: str) -> None:
    """Unknown outputs are named, with the nearest right name."""
    with pytest.raises(InvalidInputError, match=message):
        await features(model, IMAGES, include)


async def test_classify(model: DirectModel) -> None:
    """The class is the most probable one of each factor."""
    for factor in await classify(model, IMAGES):
        np.testing.assert_array_equal(factor.class_indices, EXPECTED[f"{factor.name}.probs"].argmax(axis=1))
        assert factor.u_mean is None


async def test_reconstruct(model: DirectModel) -> None:
    """A reconstruction is the decoder's image of the posterior means."""
    u = np.concatenate([EXPECTED["shape.u_mean"], EXPECTED["colour.u_mean"]], axis=1)
    expected = COLOURED.decode(u, EXPECTED["z_mean"])
    assert np.abs((await reconstruct(model, IMAGES)).astype(int) - expected).max() <= 1


async def test_generate(model: DirectModel) -> None:
    """Images are those of the decoder for the drawn latents, and their classes those drawn or requested."""
    generated = await generate(model, 5, {"shape": "heart"}, seed=42)
    latents = draw(model.manifest, 5, {"shape": 2}, seed=42)
    assert np.abs(generated.images.astype(int) - COLOURED.decode(latents.u, latents.z)).max() <= 1
    assert list(generated.classes) == ["shape", "colour"]
    assert generated.classes["shape"].tolist() == ["heart"] * 5
    colours = np.array(model.manifest.factors[1].class_names)
    np.testing.assert_array_equal(generated.classes["colour"], colours[latents.class_indices[1]])
    assert generated.seed == 42
    assert (generated.model, generated.version) == ("shapes", 1)


async def test_generate_is_repeatable(model: DirectModel) -> None:
    """Four images are the first four of eight of the same seed."""
    np.testing.assert_array_equal(
        (await generate(model, 4, {}, 1)).images, (await generate(model, 8, {}, 1)).images[:4]
    )
    assert not np.array_equal((await generate(model, 4, {}, 1)).images, (await generate(model, 4, {}, 2)).images)


@pytest.mark.parametrize(
    ("count", "classes", "message"),
    [
        (0, {}, "a count of 0 images is out of range: choose 1 to 10"),
        (11, {}, "a count of 11 images is out of range: choose 1 to 10"),
        (1, {"shap": "heart"}, r"no factor is named 'shap': there are \['shape', 'colour'\]; did you mean 'shape'"),
        (1, {"shape": "hart"}, r"no class of factor 'shape' is named 'hart'.*did you mean 'heart'"),
    ],
)
async def test_bad_generate(model: DirectModel, count: int, classes: dict[str, str], message: str) -> None:
    """Counts, factors and classes are checked."""
    with pytest.raises(InvalidInputError, match=message):
        await generate(model, count, classes, seed=0, max_count=10)


async def test_each_include_gets_its_own_outputs(model: DirectModel) -> None:
    """One model serves different outputs in turn; their order, and names that are given twice, make no difference."""
    for _ in range(2):
        alone = await features(model, IMAGES, ["z_mean"])
        assert alone.factors[0].probs is None
        assert_close(alone.z, EXPECTED["z_mean"])
        for include in (["probs", "z_mean"], ["z_mean", "probs", "probs"], ("z_mean", "probs"), {"probs", "z_mean"}):
            both = await features(model, IMAGES, include)
            assert_close(both["colour"].probs, EXPECTED["colour.probs"])
            assert both["colour"].u_mean is None
            assert_close(both.z, EXPECTED["z_mean"])


async def test_models_are_freed(two_models: Path) -> None:
    """Nothing that is remembered for a model's later requests keeps it in memory."""
    onnx_model = OnnxModel.load(load_bundle(two_models / "shapes" / "1"))
    assert_close((await features(DirectModel(onnx_model), IMAGES))["shape"].probs, EXPECTED["shape.probs"])
    still_there = weakref.ref(onnx_model)
    del onnx_model
    gc.collect()
    assert still_there() is None
