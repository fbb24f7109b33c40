"""How images of another shape are fitted: stretched, padded or cropped."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from partedvae.common.fit import FITS, Fit
from partedvae.common.image_decoding import fit_image, from_pixels, load_pixels, open_image
from partedvae.results import ImageArray
from tests.serving.hostile_files import gif_of_two_palettes

WIDE = np.arange(10, 90, 10, dtype=np.uint8).reshape(2, 4)
"""Two rows of four pixels: 10 20 30 40, 50 60 70 80."""


def fitted(pixels: ImageArray, size: tuple[int, int, int], fit: Fit) -> ImageArray:
    return fit_image(from_pixels(pixels), size, fit)


def bilinear(
    pixels: ImageArray, width: int, height: int, box: tuple[float, float, float, float] | None = None
) -> ImageArray:
    """Resize an image, or the part within (left, top, right, bottom)."""
    return np.asarray(from_pixels(pixels).resize((width, height), Image.Resampling.BILINEAR, box=box))


def noise(*shape: int) -> ImageArray:
    return np.random.Generator(np.random.PCG64(0)).integers(1, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("orientation", range(10))
def test_orientation_is_that_of_pillow(orientation: int) -> None:
    """Of EXIF data, for all values and those that do not exist."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(noise(6, 8, 3)).save(file, "PNG", exif=exif)
    upright = load_pixels(open_image(file_at_start(file)))
    expected = ImageOps.exif_transpose(Image.open(file_at_start(file)))
    assert upright.size == expected.size == ((6, 8) if 5 <= orientation <= 8 else (8, 6))
    np.testing.assert_array_equal(upright, expected)


def file_at_start(file: io.BytesIO) -> io.BytesIO:
    file.seek(0)
    return file


def test_a_gif_with_two_palettes() -> None:
    """Has the pixels of a copy by Pillow, whatever mode it reports."""
    file = io.BytesIO(gif_of_two_palettes())
    image = load_pixels(open_image(file))
    expected = Image.open(file_at_start(file)).copy()
    assert image.mode == expected.mode == "P"
    np.testing.assert_array_equal(image.convert("RGB"), expected.convert("RGB"))
    assert fit_image(image, (4, 4, 1), "stretch").shape == (4, 4, 1)


def test_stretch_resizes_without_keeping_the_aspect_ratio() -> None:
    """The pixels of 0.2.0 and before."""
    for pixels in (WIDE, WIDE.T, noise(30, 70, 3), noise(70, 30, 3)):
        expected = bilinear(pixels, 4, 4).reshape(4, 4, -1)
        np.testing.assert_array_equal(fitted(pixels, expected.shape, "stretch"), expected)


def test_pad_centres_a_wide_and_a_tall_image_over_black() -> None:
    """The image is not resized, since its longer side is that of the model's."""
    padded = fitted(WIDE, (4, 4, 1), "pad")[..., 0]
    assert padded.tolist() == [[0] * 4, [10, 20, 30, 40], [50, 60, 70, 80], [0] * 4]
    np.testing.assert_array_equal(fitted(WIDE.T.copy(), (4, 4, 1), "pad")[..., 0], padded.T)


def test_crop_keeps_the_centre_of_a_wide_and_a_tall_image() -> None:
    """The image is not resized, since its shorter side is that of the model's."""
    cropped = fitted(WIDE, (2, 2, 1), "crop")[..., 0]
    assert cropped.tolist() == [[20, 30], [60, 70]]
    np.testing.assert_array_equal(fitted(WIDE.T.copy(), (2, 2, 1), "crop")[..., 0], cropped.T)


@pytest.mark.parametrize("channels", [(), (3,)], ids=["grey", "colour"])
def test_larger_and_smaller_images_are_resized_too(channels: tuple[int, ...]) -> None:
    """Of 80x60 pixels, pad keeps all in 32x24, and crop the middle 60x60; of 8x6 likewise."""
    for scale in (1, 10):
        pixels = noise(6 * scale, 8 * scale, *channels)
        size = (32, 32, 3 if channels else 1)
        padded = fitted(pixels, size, "pad")
        np.testing.assert_array_equal(padded[4:28], bilinear(pixels, 32, 24).reshape(24, 32, -1))
        assert not padded[:4].any()
        assert not padded[28:].any()
        middle = bilinear(pixels, 32, 32, box=(scale, 0, 7 * scale, 6 * scale))
        np.testing.assert_array_equal(fitted(pixels, size, "crop"), middle.reshape(size))


def test_images_that_are_not_square_are_fitted_to_others() -> None:
    """A square image in the shape of CelebA: black above and below, or cut off on the left and the right."""
    pixels = noise(218, 218)
    padded = fitted(pixels, (218, 178, 1), "pad")[..., 0]
    np.testing.assert_array_equal(padded[20:198], bilinear(pixels, 178, 178))
    assert not padded[:20].any()
    assert not padded[198:].any()
    np.testing.assert_array_equal(fitted(pixels, (218, 178, 1), "crop")[..., 0], pixels[:, 20:198])


@pytest.mark.parametrize("shape", [(16, 24), (32, 48, 3), (160, 240), (8, 12, 3), (2, 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_all_fits_are_the_same_for_an_image_of_the_models_shape(shape: tuple[int, ...], channels: int) -> None:
    """Also where grey becomes colour, and colour grey."""
    pixels = noise(*shape)
    stretched = fitted(pixels, (16, 24, channels), "stretch")
    for fit in FITS:
        np.testing.assert_array_equal(fitted(pixels, (16, 24, channels), fit), stretched)


@pytest.mark.parametrize("shape", [(1, 1000), (1000, 1), (3, 4000, 3), (1, 1), (1, 2)])
def test_a_line_is_seen(shape: tuple[int, ...]) -> None:
    """However long, it is at least one pixel thick; a single pixel fills the image."""
    white = np.full(shape, 255, np.uint8)
    for fit in FITS:
        values = fitted(white, (20, 28, 1), fit)
        assert values.max() == 255
        assert fit == "pad" or values.min() == 255
    padded = fitted(white, (20, 28, 1), "pad")[..., 0]
    if shape == (1, 1000):
        assert [row.tolist() for row in padded if row.any()] == [[255] * 28]


@pytest.mark.parametrize("fit", FITS)
def test_a_rotated_photo_is_fitted_upright(fit: Fit) -> None:
    """A tall photo that is stored as a wide one, with its EXIF orientation."""
    upright = noise(80, 60, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees clockwise to show"
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(np.rot90(upright))).save(file, format="PNG", exif=exif)
    file.seek(0)
    decoded = fit_image(load_pixels(open_image(file)), (40, 40, 3), fit)
    np.testing.assert_array_equal(decoded, fitted(upright, (40, 40, 3), fit))
    assert decoded[:, :5].any() == (fit != "pad")
