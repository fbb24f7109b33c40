"""Traversals, transfers and scores through both clients and a real server."""

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from partedvae import InvalidRequestError, ModelError
from partedvae.serving import load
from partedvae.serving.operations.model import DirectModel, run_sync
from partedvae.serving.operations.transfer import ClassesOfU, ImagesOfU, transfer
from partedvae.serving.operations.traverse import AlongClasses, AlongU, AlongZ, PriorBase, traverse
from partedvae.serving.repository.loading import load_model
from tests.bundles import COLOURED, GREY, TinyModel
from tests.partedvae.conftest import Call
from tests.processes import ServerProcess, running_server

SHAPES = {"model": "shapes"}
IMAGES = COLOURED.random_images(3)


@pytest.fixture(scope="module")
def model(two_models: Path) -> DirectModel:
    """Return the model "shapes" of `two_model_server`, in this process."""
    return DirectModel(load_model(two_models / "shapes", device="cpu"))


@pytest.fixture(scope="module")
def old_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Serve a bundle of an older export, without a scorer."""
    models = tmp_path_factory.mktemp("models")
    TinyModel(has_scorer=False).write(models / "old")
    with running_server(models) as server:
        yield server


def test_scores_come_with_features(call: Call, server: ServerProcess) -> None:
    """Scores are requested with features and alone; they keep their order over several messages."""
    images = GREY.random_images(1500)
    expected = GREY.score(images)
    both = call(server.address, "features", images, include=("probs", "reconstruction_error", "negative_elbo"))
    alone = call(server.address, "features", images[:5], include=("negative_elbo",))

    np.testing.assert_allclose(both.reconstruction_error, expected["reconstruction_error"], rtol=1e-5)
    np.testing.assert_allclose(both.negative_elbo, expected["negative_elbo"], rtol=1e-5)
    np.testing.assert_allclose(both.probs, GREY.encode(images)["digit.probs"], atol=1e-5)
    np.testing.assert_allclose(alone.negative_elbo, expected["negative_elbo"][:5], rtol=1e-5)
    assert alone.reconstruction_error is None
    assert call(server.address, "model_info").has_scores


def test_a_bundle_without_a_scorer_has_features_only(call: Call, old_server: ServerProcess) -> None:
    """Features are returned; the error for scores has the remedy."""
    images = GREY.random_images(2)

    np.testing.assert_allclose(
        call(old_server.address, "features", images).probs, GREY.encode(images)["digit.probs"], atol=1e-5
    )
    assert not call(old_server.address, "model_info").has_scores
    message = "version 1 of model 'old' has no scorer.onnx, which reconstruction_error and negative_elbo need; export"
    with pytest.raises(ModelError, match=message):
        call(old_server.address, "features", images, include=("negative_elbo",))


def test_traversals_are_those_of_inference(call: Call, two_model_server: ServerProcess, model: DirectModel) -> None:
    """Along z, along u and along classes, from images and from draws."""
    cases: list[tuple[Any, Any, Any, dict[str, Any]]] = [
        (IMAGES[:2], IMAGES[:2], AlongZ(), {}),
        (
            IMAGES,
            IMAGES,
            AlongZ(dimensions=(4, 1), steps=4, reach=1.5),
            {"dimensions": (4, 1), "steps": 4, "reach": 1.5},
        ),
        (IMAGES, IMAGES, AlongU(factor="colour"), {"along": "u", "factor": "colour"}),
        (IMAGES, IMAGES, AlongClasses(factor="shape"), {"along": "classes", "factor": "shape"}),
        (None, PriorBase(classes={"shape": "heart"}, seed=3), AlongZ(), {"classes": "heart", "seed": 3}),
        (
            None,
            PriorBase(classes={}, seed=9, count=2),
            AlongU(factor="shape"),
            {"along": "u", "factor": "shape", "count": 2, "seed": 9},
        ),
    ]
    for images, base, along, arguments in cases:
        served = call(two_model_server.address, "traverse", images, settings=SHAPES, **arguments)
        local = run_sync(traverse(model, base, along))

        np.testing.assert_array_equal(served.images, local.images)
        assert [(row.base, row.dimension) for row in served.rows] == [(row.base, row.dimension) for row in local.rows]
        for ours, theirs in zip(served.rows, local.rows, strict=True):
            np.testing.assert_array_equal(ours.values, theirs.values)
        assert served.class_names == local.class_names
        assert list(served.classes) == ["shape", "colour"]
        assert served.along == local.along == arguments.get("along", "z")
        assert served.seed == (base.seed if isinstance(base, PriorBase) else None)
        assert (served.model, served.version) == ("shapes", 1)


def test_a_draw_without_a_seed_reports_the_seed(call: Call, server: ServerProcess) -> None:
    """The factor is optional where there is only one."""
    first = call(server.address, "traverse", along="classes")
    again = call(server.address, "traverse", along="classes", seed=first.seed)

    assert first.images.shape == (1, 10, 8, 6, 1)
    np.testing.assert_array_equal(first.images, again.images)


def test_transfers_are_those_of_inference(call: Call, two_model_server: ServerProcess, model: DirectModel) -> None:
    """From images, some or all factors, in pairs; and from classes."""
    images = COLOURED.random_images(3, seed=1)
    cases: list[tuple[dict[str, Any], Any, bool]] = [
        ({"u_images": images[:2]}, ImagesOfU(images=images[:2]), False),
        ({"u_images": images, "factors": ["colour"]}, ImagesOfU(images=images, factors=["colour"]), False),
        ({"u_images": images, "pairs": True}, ImagesOfU(images=images), True),
        (
            {"classes": ["heart", {"colour": "red"}, "shape=square"]},
            ClassesOfU(choices=[{"shape": "heart"}, {"colour": "red"}, {"shape": "square"}]),
            False,
        ),
    ]
    for arguments, domain, pairs in cases:
        served = call(two_model_server.address, "transfer", settings=SHAPES, z_images=IMAGES, **arguments)

        np.testing.assert_array_equal(served.images, run_sync(transfer(model, IMAGES, domain, pairs=pairs)).images)
        assert (served.model, served.version) == ("shapes", 1)


def test_the_deprecated_arguments_of_transfer_keep_their_layout(
    call: Call, two_model_server: ServerProcess, model: DirectModel
) -> None:
    """`content` gives z and the rows, `style` gives u and the columns; a warning names the replacement."""
    images = COLOURED.random_images(2, seed=1)
    grid = run_sync(transfer(model, IMAGES, ImagesOfU(images=images))).images.swapaxes(0, 1)
    classes = run_sync(transfer(model, IMAGES, ClassesOfU(choices=[{"shape": "heart"}]))).images.swapaxes(0, 1)
    pairs = run_sync(transfer(model, IMAGES[:2], ImagesOfU(images=images), pairs=True)).images
    for args, kwargs, expected in (
        ((IMAGES, images), {}, grid),
        ((), {"content": IMAGES, "style": images}, grid),
        ((IMAGES,), {"classes": ["heart"]}, classes),
        ((IMAGES[:2], images), {"pairs": True}, pairs),
    ):
        with pytest.warns(
            DeprecationWarning, match="content and style of transfer are deprecated: pass z_images"
        ) as seen:
            served = call(two_model_server.address, "transfer", *args, settings=SHAPES, **kwargs)
        np.testing.assert_array_equal(served.images, expected)
        assert Path(seen[0].filename).name == "conftest.py"


@pytest.mark.parametrize(
    ("images", "arguments", "message"),
    [
        (None, {"along": "zz"}, "along is 'zz'; choose from z, u, classes; did you mean 'z'?"),
        (None, {"factor": "shape"}, "factor 'shape' cannot be used with along='z': z belongs to no factor"),
        (
            None,
            {"along": "classes", "factor": "shape", "steps": 3},
            "dimensions, steps and reach cannot be used with along=",
        ),
        (IMAGES, {"seed": 3}, "classes, count and seed draw the bases and cannot be used with images"),
        (None, {"count": 0}, "count is 0; it must be at least 1"),
        (None, {"steps": 0}, "steps is 0; it must be at least 2"),
        (None, {"steps": 65}, "steps of 65 are out of range: choose 2 to 64"),
        (None, {"reach": 0}, "reach is 0; it must be more than 0 standard deviations"),
        (None, {"reach": 99}, "a reach of 99 is out of range"),
        (None, {"seed": 2**64}, "seed is 18446744073709551616; it must be 0 to 18446744073709551615"),
        (None, {"count": 2**32}, "count is 4294967296; it must be 1 to 4294967295"),
        (None, {"dimensions": [2**32]}, "an entry of dimensions is 4294967296; it must be 0 to 4294967295"),
        (None, {"dimensions": [-1]}, "an entry of dimensions is -1; it must be 0 to 4294967295"),
        (None, {"dimensions": [7]}, "z has no dimension 7: it has 5, counted from 0"),
        (None, {"along": "u"}, "the model has several factors; choose one of ['shape', 'colour']"),
        (None, {"along": "u", "factor": "size"}, "no factor is named 'size': there are ['shape', 'colour']"),
        (None, {"along": "classes", "factor": "size"}, "no factor is named 'size'"),
        (None, {"classes": "star"}, "the model has no class 'star'"),
        (None, {"count": 1000}, "a grid of 1000 bases with 5 rows each and 9 columns is out of range"),
        ([], {}, "there are no images in the call"),
        (COLOURED.random_images(2000), {}, "the bases of a traversal do not fit into one message: pass at most 100 "),
    ],
)
def test_invalid_traversals(
    call: Call, two_model_server: ServerProcess, images: Any, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRequestError, match=re.escape(message)):
        call(two_model_server.address, "traverse", images, settings=SHAPES, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "pass either u_images or classes, which give u"),
        ({"u_images": IMAGES, "classes": ["heart"]}, "pass either u_images or classes"),
        ({"z_images": None, "classes": ["heart"]}, "no images give z: pass z_images"),
        ({"classes": ["heart"], "factors": ["shape"]}, "factors cannot be used with classes, which name their factors"),
        ({"classes": []}, "0 classes for u and 3 images for z: pass at least one of each"),
        ({"classes": ["star"]}, "the model has no class 'star'"),
        ({"classes": [{}]}, "entry 0 of the classes is empty"),
        ({"u_images": IMAGES, "factors": ["size"]}, "no factor is named 'size'"),
        ({"u_images": IMAGES[:2], "pairs": True}, "2 images for u and 3 images for z cannot be paired"),
        ({"u_images": [b"%PDF-1.7"]}, "image 0: PDF is not supported"),
        ({"u_images": []}, "there are no images in the call"),
    ],
)
def test_invalid_transfers(
    call: Call, two_model_server: ServerProcess, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRequestError, match=re.escape(message)):
        call(two_model_server.address, "transfer", settings=SHAPES, **{"z_images": IMAGES, **arguments})


def test_deprecated_and_current_arguments_of_transfer_exclude_each_other(
    call: Call, two_model_server: ServerProcess
) -> None:
    message = "the deprecated content and style cannot be combined with z_images and u_images: pass the latter only"
    with pytest.warns(DeprecationWarning, match="are deprecated"), pytest.raises(InvalidRequestError, match=message):
        call(two_model_server.address, "transfer", IMAGES, settings=SHAPES, u_images=IMAGES)


def test_combined_classes(call: Call, two_model_server: ServerProcess, two_models: Path) -> None:
    """A list of classes of different factors is the same as {factor: class}, in both clients and in process."""
    combined = {"shape": "heart", "colour": "red"}
    local = load(two_models / "shapes")
    expected = local.generate(3, classes=combined, seed=6)
    for classes in (combined, ["heart", "red"], ("colour=red", "shape=heart")):
        for made in (
            call(two_model_server.address, "generate", 3, classes=classes, seed=6, settings=SHAPES),
            local.generate(3, classes=classes, seed=6),
        ):
            assert {factor: set(names) for factor, names in made.classes.items()} == {
                "shape": {"heart"},
                "colour": {"red"},
            }
            np.testing.assert_array_equal(made.images, expected.images)


def test_rows_of_combined_classes(call: Call, two_model_server: ServerProcess, two_models: Path) -> None:
    """Each entry of a transfer's classes is a row."""
    local = load(two_models / "shapes")
    expected = local.transfer(z_images=IMAGES, classes=[{"shape": "heart", "colour": "red"}, {"shape": "square"}])
    rows = [["heart", "red"], "square"]
    arguments = {"z_images": IMAGES, "classes": rows}
    for made in (
        call(two_model_server.address, "transfer", settings=SHAPES, **arguments),
        local.transfer(z_images=IMAGES, classes=rows),
    ):
        np.testing.assert_array_equal(made.images, expected.images)
    with pytest.raises(InvalidRequestError, match="pass a list with one entry per row, such as"):
        call(two_model_server.address, "transfer", z_images=IMAGES, classes="heart", settings=SHAPES)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Return a good image file, and one that starts like a PNG and is damaged."""
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.fromarray(IMAGES[0]).save(good)
    bad.write_bytes(good.read_bytes()[:60])
    return good, bad


@pytest.mark.parametrize(
    ("method", "arguments", "start"),
    [
        ("traverse", lambda good, bad: {"images": [good, bad]}, "image 1"),
        ("transfer", lambda good, bad: {"z_images": [good, bad], "u_images": [good]}, "z_images: image 1"),
        ("transfer", lambda good, bad: {"z_images": [good], "u_images": [good, good, bad]}, "u_images: image 2"),
        ("transfer", lambda good, bad: {"z_images": bad, "classes": ["heart"]}, "z_images: image 0"),
    ],
)
def test_a_damaged_file_is_named(
    call: Call,
    two_model_server: ServerProcess,
    two_models: Path,
    files: tuple[Path, Path],
    method: str,
    arguments: Callable[[Path, Path], dict[str, Any]],
    start: str,
) -> None:
    """By its position and name, and where there are two lists by the list; in both clients and in process."""
    given = arguments(*files)
    message = re.escape(f"{start} ({files[1]}): damaged PNG file")
    with pytest.raises(InvalidRequestError, match=message):
        call(two_model_server.address, method, settings=SHAPES, **given)
    with pytest.raises(InvalidRequestError, match=message):
        getattr(load(two_models / "shapes"), method)(**given)


def test_a_damaged_file_of_deprecated_arguments_is_named(
    call: Call, two_model_server: ServerProcess, files: tuple[Path, Path]
) -> None:
    good, bad = files
    for content, style, start in ((good, [good, bad], "style_images: image 1"), (bad, good, "content: image 0")):
        with (
            pytest.warns(DeprecationWarning, match="content and style of transfer are deprecated"),
            pytest.raises(InvalidRequestError, match=re.escape(f"{start} ({bad}): damaged PNG file")),
        ):
            call(two_model_server.address, "transfer", content, style, settings=SHAPES)


def test_images_of_several_kinds_share_a_grid(call: Call, two_model_server: ServerProcess, two_models: Path) -> None:
    """Files, arrays of several sizes and Pillow images: the grid is that of the images one by one."""
    random = np.random.Generator(np.random.PCG64(0))
    arrays = [random.integers(0, 256, shape, dtype=np.uint8) for shape in ((9, 20, 3), (30, 7), (4, 4, 3))]
    files = [io.BytesIO(), io.BytesIO()]
    for array, file in zip(arrays, files, strict=False):
        Image.fromarray(array).save(file, "PNG")
    mixed = [files[0].getvalue(), arrays[1], Image.fromarray(arrays[2]), IMAGES[0]]
    local = load(two_models / "shapes")
    apart = np.concatenate([local.traverse([image], along="classes", factor="colour").images for image in mixed])

    remote = call(two_model_server.address, "traverse", iter(mixed), settings=SHAPES, along="classes", factor="colour")
    for result in (remote, local.traverse(iter(mixed), along="classes", factor="colour")):
        np.testing.assert_allclose(result.images.astype(int), apart, atol=1)
    grid = call(two_model_server.address, "transfer", z_images=mixed[:2], u_images=mixed, settings=SHAPES)
    one = local.transfer(z_images=[mixed[1]], u_images=[mixed[2]]).images[0, 0]
    np.testing.assert_allclose(grid.images[2, 1].astype(int), one, atol=1)
    with pytest.raises(InvalidRequestError, match=r"image 1: not an image .*; replace it"):
        call(
            two_model_server.address,
            "traverse",
            [mixed[1], b"nonsense"],
            settings=SHAPES,
            along="classes",
            factor="colour",
        )
