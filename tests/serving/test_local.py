"""Tests of models without a server: against the tiny model in NumPy, and against the client with a real server."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from partedvae import Client, Features, InvalidRequestError, ModelError
from partedvae.results import FloatArray
from partedvae.serving import LocalModel, load
from partedvae.serving.errors import BundleError, DeviceError
from partedvae.serving.operations.features import OUTPUTS
from tests.bundles import COLOURED, GREY
from tests.processes import ServerProcess

IMAGES = COLOURED.random_images(5)
ENCODED = COLOURED.encode(IMAGES)


@pytest.fixture(scope="module")
def model(two_models: Path) -> LocalModel:
    return load(two_models / "shapes")


@pytest.fixture(scope="module")
def client(two_model_server: ServerProcess) -> Iterator[Client]:
    with Client(two_model_server.address, model="shapes") as client:
        yield client


def assert_close(actual: FloatArray | None, expected: FloatArray) -> None:
    assert actual is not None
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def assert_same_features(local: Features, served: Features) -> None:
    assert (local.model, local.version) == (served.model, served.version)
    pairs: list[tuple[Any, Any, str]] = [
        (local, served, name) for name in ("z", "z_logvar", "reconstruction_error", "negative_elbo")
    ]
    for ours, theirs in zip(local, served, strict=True):
        assert (ours.name, ours.class_names) == (theirs.name, theirs.class_names)
        pairs += [(ours, theirs, name) for name in ("probs", "u_mean", "u_logvar")]
    for a, b, name in pairs:
        if getattr(b, name) is None:
            assert getattr(a, name) is None
        else:
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-5, atol=1e-6, err_msg=name)
            assert getattr(a, name).flags.writeable


def test_features(model: LocalModel) -> None:
    """Features are those of the encoder and the scorer."""
    features = model.features(IMAGES, include=OUTPUTS)

    assert_close(features["shape"].probs, ENCODED["shape.probs"])
    assert_close(features["colour"].u_mean, ENCODED["colour.u_mean"])
    assert_close(features.z, ENCODED["z_mean"])
    assert_close(features.negative_elbo, COLOURED.score(IMAGES)["negative_elbo"])
    assert (features.model, features.version) == ("shapes", 1)


def test_images(model: LocalModel) -> None:
    """Reconstructions and new images are those of the decoder."""
    u = np.concatenate([ENCODED["shape.u_mean"], ENCODED["colour.u_mean"]], axis=1)
    expected = COLOURED.decode(u, ENCODED["z_mean"]).astype(int)
    assert np.abs(model.reconstruct(IMAGES) - expected).max() <= 1
    middle = model.traverse(IMAGES, dimensions=[0], steps=3).images[:, 1]
    z = ENCODED["z_mean"].copy()
    z[:, 0] = 0
    assert np.abs(middle - COLOURED.decode(u, z).astype(int)).max() <= 1


def test_features_are_those_of_the_client(model: LocalModel, client: Client) -> None:
    assert_same_features(model.features(IMAGES), client.features(IMAGES))
    assert_same_features(model.features(IMAGES, include=OUTPUTS), client.features(IMAGES, include=OUTPUTS))
    assert_same_features(model.classify(IMAGES), client.classify(IMAGES))


def test_many_images_are_read_in_several_chunks(model: LocalModel) -> None:
    """A call of any size is one result, in order."""
    images = COLOURED.random_images(2500)
    assert_close(model.features(images)["shape"].probs, COLOURED.encode(images)["shape.probs"])


@pytest.mark.parametrize(
    ("method", "args", "kwargs"),
    [
        ("generate", [], {"seed": 1}),
        ("generate", [4], {"classes": {"shape": "heart"}, "seed": 2}),
        ("generate", [4], {"classes": "colour=red", "seed": 3}),
        ("traverse", [IMAGES[:2]], {}),
        ("traverse", [IMAGES], {"dimensions": (4, 1), "steps": 3, "reach": 1.5}),
        ("traverse", [IMAGES], {"along": "u", "factor": "colour"}),
        ("traverse", [IMAGES], {"along": "classes", "factor": "shape"}),
        ("traverse", [], {"classes": "heart", "seed": 3}),
        ("traverse", [], {"along": "u", "factor": "shape", "count": 2, "seed": 9}),
        ("transfer", [], {"z_images": IMAGES, "u_images": IMAGES[:2]}),
        ("transfer", [], {"z_images": IMAGES, "u_images": IMAGES[::-1], "factors": ["colour"], "pairs": True}),
        ("transfer", [], {"z_images": IMAGES, "classes": ["heart", {"colour": "red"}, "shape=square"]}),
    ],
)
def test_results_are_those_of_the_client(
    model: LocalModel, client: Client, method: str, args: list[Any], kwargs: dict[str, Any]
) -> None:
    """The same class of result, with equal images, classes and description."""
    local, served = (getattr(source, method)(*args, **kwargs) for source in (model, client))

    assert type(local) is type(served)
    np.testing.assert_array_equal(local.images, served.images)
    assert (local.model, local.version) == (served.model, served.version) == ("shapes", 1)
    if method == "transfer":
        return
    assert local.seed == served.seed
    assert list(local.classes) == list(served.classes)
    for factor, names in served.classes.items():
        np.testing.assert_array_equal(local.classes[factor], names)
    if method == "traverse":
        assert local.class_names == served.class_names
        assert [(row.base, row.dimension) for row in local.rows] == [(row.base, row.dimension) for row in served.rows]
        for ours, theirs in zip(local.rows, served.rows, strict=True):
            np.testing.assert_array_equal(ours.values, theirs.values)


def test_reconstructions_are_those_of_the_client(model: LocalModel, client: Client) -> None:
    np.testing.assert_array_equal(model.reconstruct(IMAGES), client.reconstruct(IMAGES))


def test_decoded_latents_are_those_of_the_client(model: LocalModel, client: Client) -> None:
    """Bit for bit; and without a server's limit of 100 images."""
    u, z = COLOURED.random_latents(250)
    decoded = model.decode(u, z)
    assert decoded.shape == (250, 10, 12, 3)
    np.testing.assert_array_equal(decoded, client.decode(u, z))
    np.testing.assert_array_equal(decoded, model.decode({"colour": u[:, 2:], "shape": u[:, :2]}, z))


def test_decoded_features_are_reconstructions(model: LocalModel) -> None:
    features = model.features(IMAGES, include=["u_mean", "z_mean"])
    assert features.z is not None
    np.testing.assert_array_equal(model.decode(features.u, features.z), model.reconstruct(IMAGES))


def test_every_kind_of_input_gives_the_same(model: LocalModel, tmp_path: Path) -> None:
    """Arrays, paths, bytes and PIL images, alone and mixed."""
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for path, pixels in zip(paths, IMAGES, strict=True):
        Image.fromarray(pixels).save(path)
    expected = model.features(IMAGES)
    for same in (
        list(IMAGES),
        paths,
        [str(path) for path in paths],
        [path.read_bytes() for path in paths],
        [Image.fromarray(pixels) for pixels in IMAGES],
        [paths[0], IMAGES[1], paths[2].read_bytes(), Image.fromarray(IMAGES[3]), str(paths[4])],
        iter(paths),
    ):
        assert_same_features(model.features(same), expected)
    assert_same_features(model.features(paths[0]), model.features(IMAGES[:1]))


def test_a_draw_without_a_seed_can_be_repeated(model: LocalModel) -> None:
    """The result has the seed that was drawn."""
    first, traversal = model.generate(3), model.traverse(along="classes", factor="colour")
    np.testing.assert_array_equal(model.generate(3, seed=first.seed).images, first.images)
    again = model.traverse(along="classes", factor="colour", seed=traversal.seed)
    np.testing.assert_array_equal(again.images, traversal.images)


def test_info(two_models: Path, model: LocalModel, client: Client) -> None:
    """Name, version and manifest are those that a server reports."""
    assert model.info == replace(client.model_info(), limits=None, front="")
    assert (model.name, model.version, model.manifest) == ("shapes", 1, model.info.manifest)
    assert load(str(two_models / "tiny")).version == 2
    assert load(two_models / "tiny", 1, device="cpu", threads=1).version == 1
    assert load(two_models / "tiny" / "1").version == 1


@pytest.mark.parametrize(
    ("method", "args", "kwargs"),
    [
        ("features", [[]], {}),
        ("features", [np.zeros((2, 3, 4), np.float32)], {}),
        ("features", [IMAGES], {"include": ()}),
        ("generate", [0], {}),
        ("generate", [], {"classes": "star"}),
        ("generate", [], {"classes": {"shap": "heart"}}),
        ("decode", [np.zeros((1, 4)), np.zeros((1, 5))], {}),
        ("decode", [{"shape": np.zeros((1, 2))}, np.zeros((1, 5))], {}),
        ("traverse", [], {"along": "zz"}),
        ("traverse", [IMAGES], {"seed": 3}),
        ("traverse", [], {"steps": 65}),
        ("transfer", [], {"z_images": IMAGES}),
        ("transfer", [], {"z_images": IMAGES, "classes": []}),
    ],
)
def test_bad_calls_raise_the_error_of_the_client(
    model: LocalModel, client: Client, method: str, args: list[Any], kwargs: dict[str, Any]
) -> None:
    for source in (client, model):
        with pytest.raises(InvalidRequestError):
            getattr(source, method)(*args, **kwargs)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [([IMAGES, IMAGES[:2]], {}), ([IMAGES[:2], IMAGES[1:3]], {"pairs": True}), ([IMAGES], {"classes": ["heart"]})],
)
def test_deprecated_arguments_of_transfer_give_the_grid_of_the_client(
    model: LocalModel, client: Client, args: list[Any], kwargs: dict[str, Any]
) -> None:
    """One row per z, one column per u; the warning names this file."""
    with pytest.warns(DeprecationWarning, match="pass z_images and u_images by name") as seen:
        local, served = model.transfer(*args, **kwargs), client.transfer(*args, **kwargs)
    np.testing.assert_array_equal(local.images, served.images)
    assert len(local.images) == len(args[0])
    assert {warning.filename for warning in seen} == {__file__}


def test_a_bad_image_is_named(model: LocalModel, tmp_path: Path) -> None:
    """By its position in the call, and its file."""
    bad = tmp_path / "animation.gif"
    bad.write_bytes(b"%PDF-1.7")
    with pytest.raises(InvalidRequestError, match=re.escape(f"image 6 ({bad}): PDF is not supported")):
        model.features([IMAGES[0], IMAGES, bad])
    with pytest.raises(FileNotFoundError):
        model.features(tmp_path / "nowhere.png")


def test_repr(model: LocalModel) -> None:
    assert repr(model) == "LocalModel(shapes/1, CPUExecutionProvider)"


def test_a_bundle_without_a_scorer(tmp_path: Path) -> None:
    replace(GREY, has_scorer=False).write(tmp_path / "old")
    model = load(tmp_path / "old")
    assert not model.info.has_scores
    with pytest.raises(ModelError, match=r"has no scorer\.onnx"):
        model.features(GREY.random_images(1), include=["negative_elbo"])


def test_what_cannot_be_loaded(two_models: Path, tmp_path: Path) -> None:
    """A folder of models is answered with their names."""
    with pytest.raises(BundleError, match=r"holds the models \['shapes', 'tiny'\]; pass the folder of one"):
        load(two_models)
    above = tmp_path / "above"
    above.mkdir()
    (above / "models").symlink_to(two_models)
    with pytest.raises(BundleError, match=r"above is not a model, but .*/models holds models; .* such as .*/shapes$"):
        load(above)
    with pytest.raises(BundleError, match=r"above/tiny is not a folder; did you mean '.*/above/models/tiny'\?$"):
        load(above / "tiny")
    with pytest.raises(
        BundleError, match=r"encoder\.onnx is a part of a model; pass the folder of the model, .*/tiny$"
    ):
        load(two_models / "tiny" / "1" / "encoder.onnx")
    with pytest.raises(BundleError, match="holds no version of a model"):
        load(tmp_path)
    with pytest.raises(BundleError, match="is not a folder; pass the folder of a model"):
        load(tmp_path / "nowhere")
    with pytest.raises(BundleError, match="tinny is not a folder; did you mean 'tiny'"):
        load(two_models / "tinny")
    with pytest.raises(BundleError, match=r"model 'tiny' has no version 9: there are \[1, 2\]"):
        load(two_models / "tiny", 9)
    with pytest.raises(DeviceError, match="cuda"):
        load(two_models / "tiny", device="cuda")


def test_the_package_is_light() -> None:
    """ONNX Runtime, NumPy and gRPC load with `load`, not with the package."""
    program = (
        "import sys, partedvae.serving as serving;"
        "print(sorted({'onnxruntime', 'PIL', 'grpc', 'numpy'} & set(sys.modules)), 'load' in dir(serving))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[] True\n"
