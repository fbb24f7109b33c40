"""Tests of Pillow images of every mode: they reach the model as files of the mode do, or are refused with a remedy."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image

from partedvae import InvalidRequestError
from partedvae.image_chunks import chunks
from partedvae.packing import Packing, RequestLimits
from partedvae.results import ImageArray
from partedvae.serving.images import decode, from_message
from partedvae.v1.manifest_pb2 import ImageSpec

GREY, RGB = ImageSpec(height=8, width=6, channels=1), ImageSpec(height=10, width=12, channels=3)
SPECS = pytest.mark.parametrize("spec", [GREY, RGB], ids=["grey", "rgb"])
COLOUR = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 6, 3)).astype(np.uint8))
PLAIN = COLOUR.convert("L")
WIDE = np.asarray(PLAIN).astype(np.uint16) * 257


def sent(image: Image.Image, spec: ImageSpec) -> ImageArray:
    """Return what the model of a server gets of an image."""
    (part,) = chunks(image, Packing.of(RequestLimits(), spec))
    return from_message(part.images, spec)


def with_alpha(mode: str) -> Image.Image:
    image = COLOUR.convert("RGBA")
    image.putalpha(PLAIN)
    return image.convert(mode)


def with_palette_and_alpha() -> Image.Image:
    image = COLOUR.convert("P")
    image.putalpha(PLAIN)
    return image


def transparent(mode: str, key: Any) -> Image.Image:
    """Return an image with a transparent colour, as a PNG file may have."""
    file = io.BytesIO()
    COLOUR.convert(mode).save(file, format="PNG", transparency=key)
    return Image.open(file)


FILES = {
    "1": COLOUR.convert("1"),
    "L": PLAIN,
    "LA": with_alpha("LA"),
    "P": COLOUR.convert("P", palette=Image.Palette.ADAPTIVE),
    "P, transparent": transparent("P", 3),
    "L, transparent": transparent("L", PLAIN.getpixel((2, 3))),
    "RGB": COLOUR,
    "RGB, transparent": transparent("RGB", COLOUR.getpixel((2, 3))),
    "RGBA": with_alpha("RGBA"),
    "I;16": Image.fromarray(WIDE),
}


@SPECS
@pytest.mark.parametrize("name", FILES)
def test_modes_of_files(name: str, spec: ImageSpec) -> None:
    """An image is what the server makes of a PNG file of it, bit for bit."""
    file = io.BytesIO()
    FILES[name].save(file, format="PNG")

    np.testing.assert_array_equal(sent(FILES[name], spec), decode([file.getvalue()], spec))


OTHERS = {
    "I;16L": (Image.frombytes("I;16L", (6, 8), WIDE.astype("<u2").tobytes()), PLAIN),
    "I;16B": (Image.frombytes("I;16B", (6, 8), WIDE.astype(">u2").tobytes()), PLAIN),
    "I;16N": (Image.frombytes("I;16N", (6, 8), WIDE.tobytes()), PLAIN),
    "La": (with_alpha("LA").convert("La"), with_alpha("LA").convert("La").convert("LA")),
    "PA": (with_palette_and_alpha(), with_palette_and_alpha().convert("RGBA")),
    "RGBa": (with_alpha("RGBa"), with_alpha("RGBa").convert("RGBA")),
    "RGBX": (COLOUR.convert("RGBX"), COLOUR),
    "CMYK": (COLOUR.convert("CMYK"), COLOUR),
    "HSV": (COLOUR.convert("HSV"), COLOUR.convert("HSV").convert("RGB")),
    "LAB": (COLOUR.convert("LAB"), COLOUR.convert("LAB").convert("RGB")),
}


@SPECS
@pytest.mark.parametrize("mode", OTHERS)
def test_modes_that_no_png_has(mode: str, spec: ImageSpec) -> None:
    """An image is the same as in the mode of a file to which Pillow converts it."""
    image, same = OTHERS[mode]
    assert image.mode == mode

    np.testing.assert_array_equal(sent(image, spec), sent(same, spec))


def test_the_luma_of_ycbcr_is_its_y() -> None:
    """Grey is not computed from RGB again, which would round twice."""
    image = COLOUR.convert("YCbCr")

    np.testing.assert_array_equal(sent(image, GREY), sent(image.getchannel("Y"), GREY))
    np.testing.assert_array_equal(sent(image, RGB), sent(image.convert("RGB"), RGB))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_images_without_a_range_are_refused(mode: str) -> None:
    """The remedies of the message give the image that is meant."""
    image = PLAIN.convert(mode)
    message = rf"image 0: mode {mode} \(.*does not say which value is white"
    with pytest.raises(InvalidRequestError, match=message) as error:
        sent(image, GREY)

    namespace = {"np": np, "Image": Image, "image": image}
    for remedy in re.findall(r"with (.*?) if its|with (.*?) if they", str(error.value)):
        converted = eval("".join(remedy), namespace)
        assert converted.mode in ("L", "I;16")
        sent(converted, GREY)
    of_bytes = "Image.fromarray(np.asarray(image).astype(np.uint8))" if mode == "I" else 'image.convert("L")'
    assert of_bytes in str(error.value)
    np.testing.assert_array_equal(sent(eval(of_bytes, namespace), GREY), sent(PLAIN, GREY))


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="image 0 has no pixels: it is 0 x 8"):
        sent(Image.new("RGB", (0, 8)), GREY)


def test_a_truncated_file_that_pillow_opened_is_refused() -> None:
    """Pillow decodes when pixels are asked for."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3)).astype(np.uint8)).save(file, format="JPEG")
    image = Image.open(io.BytesIO(file.getvalue()[:2000]))

    with pytest.raises(InvalidRequestError, match=r"image 0: Pillow cannot decode it: .*; replace it"):
        sent(image, GREY)
