"""Image results: their texts and pictures."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from PIL import Image, ImageChops

from partedvae import Generated, Transferred, Traversal, TraversalRow
from partedvae.grid import Row, labelled_grid, wrapped
from partedvae.results import ImageArray
from tests.bundles import GREY


def images_of(*shape: int) -> ImageArray:
    return GREY.random_images(int(np.prod(shape))).reshape(*shape, 8, 6, 1)


def values(*numbers: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array(numbers, np.float32)


GENERATED = Generated(
    images=images_of(3), classes={"digit": np.array(["7", "4", "7"])}, seed=5, model="tiny", version=1
)
TRAVERSAL = Traversal(
    images=images_of(2, 3),
    rows=(
        TraversalRow(base=0, dimension=4, values=values(-1, 0, 1)),
        TraversalRow(base=1, dimension=4, values=values(-1, 0, 1)),
    ),
    class_names=(),
    classes={"digit": np.array(["7", "4"])},
    along="u",
    seed=9,
    model="tiny",
    version=1,
)
TRANSFERRED = Transferred(images=images_of(2, 1), model="tiny", version=1)


def assert_equal(picture: Image.Image, expected: Image.Image) -> None:
    assert picture.size == expected.size
    assert ImageChops.difference(picture, expected).getbbox() is None


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (GENERATED, "Generated(3 images, 8 x 6 x 1, digit: ['7', '4', '7'], seed 5, model tiny/1)"),
        (TRAVERSAL, "Traversal(2 rows of 3 images, 8 x 6 x 1, along u, seed 9, model tiny/1)"),
        (TRANSFERRED, "Transferred(2 rows of 1 image, 8 x 6 x 1, model tiny/1)"),
    ],
)
def test_the_repr_is_one_line(result: object, text: str) -> None:
    """Without arrays."""
    assert repr(result) == text


def test_the_picture_of_generated_images() -> None:
    """Each image has its class above it."""
    expected = labelled_grid(wrapped(GENERATED.images, ["7", "4", "7"]), "tiny version 1, seed 5")

    assert_equal(GENERATED.to_pil(), expected)


def test_captions_of_several_factors_have_their_names() -> None:
    """As "factor=NAME"."""
    classes = {"shape": np.array(["heart"]), "colour": np.array(["red"])}
    result = Generated(images=images_of(1), classes=classes, seed=5, model="tiny", version=1)
    expected = labelled_grid(wrapped(result.images, ["shape=heart, colour=red"]), "tiny version 1, seed 5")

    assert_equal(result.to_pil(), expected)


@pytest.mark.parametrize(("bases", "labels"), [((), ("7 u4", "4 u4")), (("a.png", "b.png"), ("a.png u4", "b.png u4"))])
def test_the_picture_of_a_traversal(bases: tuple[str, ...], labels: tuple[str, ...]) -> None:
    """Rows are labelled by their base, which is its class by default, and the dimension."""
    rows = [Row(images=images, label=label) for images, label in zip(TRAVERSAL.images, labels, strict=True)]

    assert_equal(TRAVERSAL.to_pil(bases), labelled_grid(rows, "tiny version 1, seed 9"))


def test_the_picture_of_a_transfer() -> None:
    """Rows and columns have labels; the deprecated names are accepted with a warning."""
    rows = [
        Row(images=images, label=label, captions=["7"])
        for images, label in zip(TRANSFERRED.images, ("a.png", "b.png"), strict=True)
    ]

    expected = labelled_grid(rows, "tiny version 1")
    assert_equal(TRANSFERRED.to_pil(["a.png", "b.png"], ["7"]), expected)
    with pytest.warns(DeprecationWarning, match="contents and styles of to_pil are deprecated: pass rows and columns"):
        assert_equal(TRANSFERRED.to_pil(contents=["a.png", "b.png"], styles=["7"]), expected)


@pytest.mark.parametrize("result", [GENERATED, TRAVERSAL, TRANSFERRED], ids=["generated", "traversal", "transferred"])
def test_notebooks_show_the_picture(result: Generated | Traversal | Transferred) -> None:
    """As a PNG."""
    png = result._repr_png_()

    assert png is not None
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.format == "PNG"
        assert_equal(picture.convert("RGB"), result.to_pil())


def test_notebooks_show_the_text_without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    """None makes Jupyter show the repr."""
    monkeypatch.delitem(sys.modules, "partedvae.grid")
    monkeypatch.setitem(sys.modules, "PIL", None)

    assert GENERATED._repr_png_() is None


def test_notebooks_show_the_text_of_very_many_images() -> None:
    """A picture of them would be too large."""
    many = Generated(images=images_of(401), classes={"digit": np.array(["7"] * 401)}, seed=5, model="tiny", version=1)

    assert many._repr_png_() is None
