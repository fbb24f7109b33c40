"""Tests of `partedvae.serving.images`."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from partedvae.serving.errors import ImageError, InvalidInputError
from partedvae.serving.images import ImageLimits, decode, encode_png, from_packed
from partedvae.v1.manifest_pb2 import ImageSpec
from tests.serving.pictures import file_of, noise, png_bomb

GREY = ImageSpec(height=3, width=4, channels=1)
RGB = ImageSpec(height=3, width=4, channels=3)
RANDOM = np.random.default_rng(0)


def pixels(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 1)])
def test_packed_of_the_right_size_is_not_copied(shape: tuple[int, ...]) -> None:
    """Pixels that already fit are a view of the caller's bytes."""
    data = pixels(*shape).tobytes()
    images = from_packed(data, shape, GREY)
    assert images.shape == (2, 3, 4, 1)
    assert images.tobytes() == data
    assert np.shares_memory(images, np.frombuffer(data, np.uint8))


def test_packed_grey_becomes_rgb() -> None:
    """Grey is repeated in all three channels."""
    source = pixels(2, 3, 4)
    images = from_packed(source.tobytes(), source.shape, RGB)
    np.testing.assert_array_equal(images, np.repeat(source[..., None], 3, axis=3))


def test_packed_rgb_becomes_grey() -> None:
    """Colour becomes ITU-R 601 luma."""
    source = pixels(5, 3, 4, 3)
    images = from_packed(source.tobytes(), source.shape, GREY)
    luma = source @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(images[..., 0], luma, atol=0.51)


def test_packed_and_file_agree() -> None:
    """The same pixels give the same images, raw or as a file, also resized; many are converted in threads."""
    source = pixels(50, 9, 7, 3)
    packed = from_packed(source.tobytes(), source.shape, GREY)
    files = decode([file_of(Image.fromarray(image)) for image in source], GREY)
    np.testing.assert_array_equal(packed, files)


def test_reduction_averages() -> None:
    """A checkerboard of 1-pixel squares becomes uniform grey instead of a moiré pattern."""
    board = (np.indices((300, 400)).sum(axis=0) % 2 * 255).astype(np.uint8)
    images = from_packed(board.tobytes(), (1, 300, 400), GREY)
    assert np.abs(images.astype(int) - 127).max() <= 1


@pytest.mark.parametrize("fmt", ["PNG", "JPEG", "WEBP"])
def test_formats(fmt: str) -> None:
    """Every format is decoded to about the colour that was encoded."""
    images = decode([file_of(Image.new("RGB", (64, 48), (200, 100, 50)), fmt)], RGB)
    assert images.shape == (1, 3, 4, 3)
    assert np.abs(images.astype(int) - (200, 100, 50)).max() <= 4


def test_exif_orientation_is_applied() -> None:
    """A photo that is stored rotated is decoded upright."""
    upright = np.zeros((4, 3), np.uint8)
    upright[0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees clockwise to show"
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(upright)))
    images = decode([file_of(stored, "PNG", exif=exif)], ImageSpec(height=4, width=3, channels=1))
    np.testing.assert_array_equal(images[0, :, :, 0], upright)


def test_modes() -> None:
    """16-bit, 1-bit, palette and transparent images become 8 bits over black."""
    size = (4, 3)
    wide = Image.fromarray(np.full((3, 4), 257 * 100, np.uint16))
    palette = Image.new("RGB", size, (0, 0, 255)).quantize(4)
    clear_palette = Image.new("P", size, 1)
    clear_palette.putpalette([0, 0, 0, 255, 255, 255])
    modes = {
        "16 bit": (file_of(wide), (100, 100, 100)),
        "1 bit": (file_of(Image.new("1", size, 1)), (255, 255, 255)),
        "palette": (file_of(palette), (0, 0, 255)),
        "transparent palette": (file_of(clear_palette, transparency=1), (0, 0, 0)),
        "RGBA": (file_of(Image.new("RGBA", size, (255, 100, 0, 128))), (128, 50, 0)),
        "grey with alpha": (file_of(Image.new("LA", size, (200, 0))), (0, 0, 0)),
        "CMYK": (file_of(Image.new("CMYK", size, (0, 0, 0, 0)), "JPEG"), (255, 255, 255)),
    }
    images = decode([file for file, _ in modes.values()], RGB)
    for name, image, (_, expected) in zip(modes, images, modes.values(), strict=True):
        assert np.abs(image.astype(int) - expected).max() <= 1, name


@pytest.mark.parametrize(
    ("data", "shape", "message"),
    [
        (b"", (0, 3, 4), "the batch is empty"),
        (b"", (), r"shape \[\] cannot be used: send \[images, height, width\]"),
        (b"x" * 12, (3, 4), r"shape \[3, 4\] cannot be used"),
        (b"x" * 24, (1, 3, 4, 2), "1 or 3 channels"),
        (b"x" * 11, (1, 3, 4), r"need 12 bytes, got 11; send uint8"),
        (b"x" * 48, (1, 3, 4), r"need 12 bytes, got 48"),
        (b"", (1, 0, 4), "have no pixels"),
        (b"x" * 5, (5, 1, 1), "5 images are above the limit of 4 per request: send them in several requests"),
        (b"x" * 1001, (1, 1001, 1), "1x1001 pixels are above the limit of 1,000"),
    ],
)
def test_bad_packed(data: bytes, shape: tuple[int, ...], message: str) -> None:
    """Shape and length are checked, with a remedy in the message."""
    with pytest.raises(InvalidInputError, match=message):
        from_packed(data, shape, GREY, ImageLimits(max_images=4, max_pixels=1000))


JPEG = file_of(noise(), "JPEG")
PNG = file_of(noise(), "PNG")
WEBP = file_of(noise(), "WEBP")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (b"", "no bytes"),
        (b"hello", r"not an image \(it starts with b'hello'\): send a PNG, JPEG, WebP, BMP, TIFF or GIF file"),
        (file_of(noise(), "PDF"), "PDF is not supported: send a PNG, JPEG, WebP, BMP, TIFF or GIF file"),
        (file_of(noise(), "JPEG2000"), "JPEG 2000 is not supported"),
        (file_of(noise(), "ICO"), "ICO is not supported"),
        (JPEG[: len(JPEG) // 2], "damaged JPEG file: image file is truncated"),
        (JPEG[:10], "damaged JPEG file"),
        (PNG[: len(PNG) // 2], "damaged PNG file: image file is truncated"),
        (PNG[:20], "damaged PNG file"),
        (WEBP[: len(WEBP) // 2], "damaged WEBP file"),
        (png_bomb(), "60000x60000 pixels are above the limit of 25,000,000: make the image smaller"),
        (png_bomb(10_000, 10_000), "10000x10000 pixels are above the limit"),
    ],
)
def test_bad_file(file: bytes, message: str) -> None:
    """An unusable file is reported with its position and the reason, also if threads decode."""
    for before in (1, 40):
        with pytest.raises(ImageError, match=f"image {before}: {message}") as caught:
            decode([PNG] * before + [file], GREY)
        assert caught.value.index == before


@pytest.mark.parametrize("whole", [JPEG, PNG, WEBP], ids=["jpeg", "png", "webp"])
def test_any_truncation_is_an_image_error(whole: bytes) -> None:
    """Wherever a file is truncated, it is decoded or raises ImageError."""
    for length in range(0, len(whole), 7):
        with contextlib.suppress(ImageError):
            decode([whole[:length]], GREY)


def test_first_bad_file_is_named() -> None:
    """Of several bad files the first is reported, whichever thread is faster."""
    with pytest.raises(ImageError, match="image 20: "):
        decode([PNG] * 20 + [b"bad"] * 50, GREY)


def test_file_counts() -> None:
    """An empty batch and one that is too large are refused before anything is decoded."""
    with pytest.raises(InvalidInputError, match="the batch is empty"):
        decode([], GREY)
    with pytest.raises(InvalidInputError, match="3 images are above the limit of 2 per request"):
        decode([b"bad"] * 3, GREY, ImageLimits(max_images=2))


def test_many_threads_decode_at_once() -> None:
    """Batches that are decoded concurrently do not mix."""
    batches = [[file_of(Image.new("L", (8, 8), level))] * 40 for level in range(16)]
    with ThreadPoolExecutor(8) as executor:
        for level, images in enumerate(executor.map(lambda batch: decode(batch, GREY), batches)):
            assert (images == level).all()


@pytest.mark.parametrize("spec", [GREY, RGB])
def test_png_round_trip(spec: ImageSpec) -> None:
    """PNG files are decoded to the pixels that were encoded."""
    source = pixels(3, spec.height, spec.width, spec.channels)
    np.testing.assert_array_equal(decode(encode_png(source), spec), source)


def test_pixels_of_the_whole_request() -> None:
    """Images that are small enough one by one are refused if they have too many pixels in total."""
    limits = ImageLimits(max_pixels=12, max_request_pixels=30)
    pixels = np.zeros((3, 3, 4, 1), dtype=np.uint8)
    message = "the images of the request have more than 30 pixels, which is the limit: send them in several requests"
    with pytest.raises(InvalidInputError, match=message):
        decode(encode_png(pixels), GREY, limits)
    with pytest.raises(InvalidInputError, match=message):
        from_packed(pixels.tobytes(), pixels.shape, GREY, limits)
    assert len(decode(encode_png(pixels[:2]), GREY, limits)) == 2
