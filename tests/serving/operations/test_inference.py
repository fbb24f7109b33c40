"""Tests of `partedvae.serving.operations.inference`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from partedvae.results import FloatArray
from partedvae.serving.bundle import load_bundle
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.onnx.model import Runtime
from partedvae.serving.operations.inference import OUTPUTS, classify, extract_features, generate, reconstruct
from partedvae.serving.operations.sampling import draw
from tests.bundles import COLOURED

IMAGES = COLOURED.random_images(9)
EXPECTED = COLOURED.encode(IMAGES)
SCORES = COLOURED.score(IMAGES)


@pytest.fixture(scope="module")
def runtime(two_models: Path) -> Runtime:
    return Runtime.load(load_bundle(two_models / "shapes" / "1"))


def assert_close(actual: FloatArray | None, expected: FloatArray) -> None:
    assert actual is not None
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_class_related_features_are_the_default(runtime: Runtime) -> None:
    """Without include: probabilities and u of each factor, and no z."""
    features = extract_features(runtime, IMAGES)
    assert (features.model, features.version) == ("shapes", 1)
    assert [f.name for f in features] == ["shape", "colour"]
    for factor in features:
        assert factor.u_logvar is None
        assert_close(factor.probs, EXPECTED[f"{factor.name}.probs"])
        assert_close(factor.u_mean, EXPECTED[f"{factor.name}.u_mean"])
    assert features.z is None
    assert features.z_logvar is None
    assert features["shape"].class_names == ("square", "ellipse", "heart")


def test_all_outputs(runtime: Runtime) -> None:
    """Everything can be asked for, in any order."""
    features = extract_features(runtime, IMAGES, list(reversed(OUTPUTS)))
    assert_close(features.z, EXPECTED["z_mean"])
    assert_close(features.z_logvar, EXPECTED["z_logvar"])
    assert_close(features.reconstruction_error, SCORES["reconstruction_error"])
    assert_close(features.negative_elbo, SCORES["negative_elbo"])
    assert_close(features["colour"].u_logvar, EXPECTED["colour.u_logvar"])


def test_z_alone(runtime: Runtime) -> None:
    """What is not asked for is None, also in the factors."""
    features = extract_features(runtime, IMAGES, ["z_mean"])
    assert features.z is not None
    assert features["shape"].probs is None


@pytest.mark.parametrize(
    ("include", "message"),
    [([], "nothing is asked for: include at least one of"), (["u_men"], "no output 'u_men'.*did you mean 'u_mean'")],
)
def test_bad_include(runtime: Runtime, include: list[str], message: str) -> None:
    """Unknown outputs are named, with the nearest right name."""
    with pytest.raises(InvalidInputError, match=message):
        extract_features(runtime, IMAGES, include)


def test_classify(runtime: Runtime) -> None:
    """The class is the most probable one of each factor."""
    for factor in classify(runtime, IMAGES):
        np.testing.assert_array_equal(factor.class_indices, EXPECTED[f"{factor.name}.probs"].argmax(axis=1))
        assert factor.u_mean is None


def test_reconstruct(runtime: Runtime) -> None:
    """A reconstruction is the decoder's image of the posterior means."""
    u = np.concatenate([EXPECTED["shape.u_mean"], EXPECTED["colour.u_mean"]], axis=1)
    expected = COLOURED.decode(u, EXPECTED["z_mean"])
    assert np.abs(reconstruct(runtime, IMAGES).astype(int) - expected).max() <= 1


def test_generate(runtime: Runtime) -> None:
    """Images are the decoder's images of the draw, and their classes are those drawn or asked for."""
    generated = generate(runtime, 5, {"shape": "heart"}, seed=42)
    latents = draw(runtime.manifest, 5, {"shape": 2}, seed=42)
    assert np.abs(generated.images.astype(int) - COLOURED.decode(latents.u, latents.z)).max() <= 1
    assert generated.class_indices[0].tolist() == [2] * 5
    np.testing.assert_array_equal(generated.class_indices[1], latents.class_indices[1])
    assert generated.seed == 42


def test_generate_is_repeatable(runtime: Runtime) -> None:
    """Four images are the first four of eight of the same seed."""
    np.testing.assert_array_equal(generate(runtime, 4, {}, 1).images, generate(runtime, 8, {}, 1).images[:4])
    assert not np.array_equal(generate(runtime, 4, {}, 1).images, generate(runtime, 4, {}, 2).images)


@pytest.mark.parametrize(
    ("count", "classes", "message"),
    [
        (0, {}, "a count of 0 images is out of range: ask for 1 to 10"),
        (11, {}, "a count of 11 images is out of range: ask for 1 to 10"),
        (1, {"shap": "heart"}, r"no factor is named 'shap': there are \['shape', 'colour'\]; did you mean 'shape'"),
        (1, {"shape": "hart"}, r"no class of factor 'shape' is named 'hart'.*did you mean 'heart'"),
    ],
)
def test_bad_generate(runtime: Runtime, count: int, classes: dict[str, str], message: str) -> None:
    """Counts, factors and classes are checked."""
    with pytest.raises(InvalidInputError, match=message):
        generate(runtime, count, classes, seed=0, max_count=10)
