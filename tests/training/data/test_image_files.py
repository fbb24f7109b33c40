"""Training and serving decode an image file to the same pixels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from partedvae.serving.errors import ImageError
from partedvae.serving.images import decode
from partedvae.training.data.dataset import DataError
from partedvae.training.data.image_files import ImageFiles, decode_image
from partedvae.v1.manifest_pb2 import ImageSpec
from tests.serving.pictures import file_of

RANDOM = np.random.default_rng(0)
HEIGHT, WIDTH = 30, 41


def pixels(*channels: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return RANDOM.integers(0, 256, (HEIGHT, WIDTH, *channels), dtype=np.uint8)


def wide() -> Image.Image:
    """Return 16-bit grey."""
    return Image.fromarray(RANDOM.integers(0, 2**16, (HEIGHT, WIDTH)).astype(np.uint16))


def palette_with_transparency() -> bytes:
    return file_of(Image.fromarray(pixels(3)).quantize(16), transparency=3)


def turned(orientation: int) -> bytes:
    """Return a JPEG file with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return file_of(Image.fromarray(pixels(3)), "JPEG", exif=exif)


FILES: dict[str, Callable[[], bytes]] = {
    "grey PNG": lambda: file_of(Image.fromarray(pixels())),
    "RGB PNG": lambda: file_of(Image.fromarray(pixels(3))),
    "RGBA PNG": lambda: file_of(Image.fromarray(pixels(4))),
    "grey PNG with alpha": lambda: file_of(Image.fromarray(pixels(2))),
    "16-bit PNG": lambda: file_of(wide()),
    "1-bit PNG": lambda: file_of(Image.fromarray(pixels()).convert("1")),
    "palette PNG": lambda: file_of(Image.fromarray(pixels(3)).quantize(16)),
    "palette PNG with transparency": palette_with_transparency,
    "grey JPEG": lambda: file_of(Image.fromarray(pixels()), "JPEG"),
    "RGB JPEG": lambda: file_of(Image.fromarray(pixels(3)), "JPEG"),
    "CMYK JPEG": lambda: file_of(Image.fromarray(pixels(3)).convert("CMYK"), "JPEG"),
    **{f"JPEG of orientation {k}": lambda k=k: turned(k) for k in range(2, 9)},  # type: ignore[misc]  # k is bound at once
    "lossy WebP": lambda: file_of(Image.fromarray(pixels(3)), "WEBP"),
    "lossless WebP": lambda: file_of(Image.fromarray(pixels(3)), "WEBP", lossless=True),
    "RGB BMP": lambda: file_of(Image.fromarray(pixels(3)), "BMP"),
    "RGB TIFF": lambda: file_of(Image.fromarray(pixels(3)), "TIFF", compression="tiff_lzw"),
    "16-bit TIFF": lambda: file_of(wide(), "TIFF"),
    "CMYK TIFF": lambda: file_of(Image.fromarray(pixels(3)).convert("CMYK"), "TIFF"),
    "animated GIF": lambda: file_of(
        Image.fromarray(pixels(3)), "GIF", save_all=True, append_images=[Image.fromarray(pixels(3))]
    ),
    "WebP with alpha": lambda: file_of(Image.fromarray(pixels(4)), "WEBP", lossless=True),
}


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH, 3), (HEIGHT, WIDTH, 1), (16, 24, 3), (64, 64, 1)])
@pytest.mark.parametrize("name", FILES)
def test_training_and_serving_decode_a_file_to_the_same_pixels(name: str, size: tuple[int, int, int]) -> None:
    content = FILES[name]()
    trained = decode_image(name, content, size)
    served = decode([content], ImageSpec(height=size[0], width=size[1], channels=size[2]))
    assert trained.dtype == np.uint8
    assert trained.shape == size
    assert trained.std() > 0
    np.testing.assert_array_equal(trained, served[0])


def test_image_files_returns_the_pixels_of_the_indexed_files_in_order() -> None:
    contents = {name: make() for name, make in FILES.items()}
    size = (16, 24, 3)
    images = ImageFiles(tuple(contents), contents.__getitem__, size)
    assert images.shape == (len(contents), *size)
    chosen = torch.tensor([5, 0, 5, 12])
    spec = ImageSpec(height=16, width=24, channels=3)
    served = decode([list(contents.values())[index] for index in chosen.tolist()], spec)
    np.testing.assert_array_equal(images[chosen].numpy(), served)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no bytes"),
        (b"%PDF-1.7", "PDF is not supported"),
        (b"\0\0\0\x1cftypavif", "AVIF is not supported"),
        (bytes(40), "it starts with zeros, as a file does whose download was interrupted"),
        (
            file_of(Image.fromarray(pixels()).convert("F"), "TIFF"),
            r"mode F \(floating-point numbers\) does not say which value is white",
        ),
        (file_of(Image.fromarray(pixels(3)))[:200], "damaged PNG file"),
        (b"\xff\xd8\xff\xe0broken", "damaged JPEG file"),
    ],
)
def test_both_refuse_a_file_for_the_same_reason(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        decode_image("picture", content, (16, 16, 3))
    with pytest.raises(ImageError, match=message):
        decode([content], ImageSpec(height=16, width=16, channels=3))
