"""Tests of messages under a server's limits, and of images that are shrunk before they are sent."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import partedvae.image_items
from partedvae import InvalidRequestError, RequestLimits
from partedvae.common.fit import FITS
from partedvae.image_chunks import Chunk, chunks, one_message
from partedvae.image_fit import BY_NAME
from partedvae.packing import OVERHEAD, Packing
from partedvae.results import ImageArray
from partedvae.serving.images import ImageLimits, decode, from_message, from_packed
from partedvae.v1.manifest_pb2 import ImageSpec
from partedvae.v1.service_pb2 import GetModelResponse
from partedvae.v1.service_pb2 import RequestLimits as LimitsMessage

GREY, RGB = ImageSpec(height=28, width=20, channels=1), ImageSpec(height=24, width=30, channels=3)
SPECS = [
    ImageSpec(height=spec.height, width=spec.width, channels=spec.channels, fit=BY_NAME[fit])
    for spec in (GREY, RGB)
    for fit in FITS
]
SPEC_IDS = [f"{colour} {fit}" for colour in ("grey", "rgb") for fit in FITS]
LIMITS = RequestLimits(max_message_bytes=400_000, max_images=100, max_pixels=25_000_000, max_request_pixels=2_000_000)
SERVER = ImageLimits(max_images=100, max_pixels=25_000_000, max_request_pixels=2_000_000)


def noise(*shape: int) -> ImageArray:
    return np.random.Generator(np.random.PCG64(0)).integers(0, 256, shape, dtype=np.uint8)


def photo(width: int, height: int, mode: str = "RGB", kind: str = "JPEG", **options: Any) -> bytes:
    """Return a file of noise, magnified so that it also has smooth parts."""
    image = Image.fromarray(noise(height // 4, width // 4, 3)).resize((width, height), Image.Resampling.BICUBIC)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257 - 100)
    file = io.BytesIO()
    image.convert(mode).save(file, format=kind, **options)
    return file.getvalue()


def rotated() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


FILES = {
    "jpeg": photo(1200, 900, quality=95),
    "rotated jpeg": photo(1200, 900, quality=95, exif=rotated().tobytes()),
    "grey jpeg": photo(1300, 700, "L", quality=95),
    "cmyk jpeg": photo(900, 900, "CMYK", quality=95),
    "png with alpha": photo(500, 500, "RGBA", "PNG"),
    "png with a palette": photo(800, 800, "P", "PNG"),
    "16-bit png": photo(700, 500, "I;16", "PNG"),
    "webp": photo(900, 500, kind="WEBP", lossless=True),
}


def assert_within_limits(part: Chunk) -> None:
    """Check a message as a server with `LIMITS` does."""
    assert part.images.ByteSize() <= LIMITS.max_message_bytes
    from_message(part.images, GREY, SERVER)


@pytest.mark.parametrize("spec", SPECS, ids=SPEC_IDS)
@pytest.mark.parametrize("name", FILES)
def test_a_shrunk_file_has_the_pixels_that_the_server_would_decode(name: str, spec: ImageSpec) -> None:
    """Shrunk by the client, a file is the same image to the model, bit for bit."""
    (part,) = chunks(FILES[name], Packing.of(RequestLimits(), spec))

    assert list(part.images.packed.shape) == [1, spec.height, spec.width, spec.channels]
    np.testing.assert_array_equal(from_message(part.images, spec), decode([FILES[name]], spec))


@pytest.mark.parametrize("spec", SPECS, ids=SPEC_IDS)
@pytest.mark.parametrize("shape", [(3, 400, 500), (3, 400, 500, 1), (2, 300, 200, 3)])
def test_shrunk_arrays_have_the_pixels_that_the_server_would_compute(spec: ImageSpec, shape: tuple[int, ...]) -> None:
    """As for files, also for one image in a list and for a Pillow image."""
    array, packing = noise(*shape), Packing.of(RequestLimits(), spec)
    expected = from_packed(array.tobytes(), array.shape, spec)
    pillow = [Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image) for image in array]

    for images in (array, list(array), pillow):
        (part,) = chunks(images, packing)
        assert list(part.images.packed.shape) == [len(array), spec.height, spec.width, spec.channels]
        np.testing.assert_array_equal(from_message(part.images, spec), expected)


def test_images_for_a_server_that_fits_them_in_an_unknown_way_are_sent_as_they_are() -> None:
    """A later server resizes them by itself."""
    spec = ImageSpec(height=28, width=20, channels=1)
    spec.fit = 99  # type: ignore[assignment]  # as a later version may have
    packing = Packing.of(RequestLimits(), spec)

    assert list(next(chunks(FILES["jpeg"], packing)).images.encoded.items) == [FILES["jpeg"]]
    assert next(chunks(noise(1, 400, 500), packing)).images.packed.shape == [1, 400, 500]


def test_small_images_are_sent_as_they_are() -> None:
    """Nothing is decoded that is sent faster."""
    small, array = photo(60, 40), noise(2, 60, 40, 3)
    packing = Packing.of(RequestLimits(), GREY)

    assert list(next(chunks(small, packing)).images.encoded.items) == [small]
    assert next(chunks(array, packing)).images.packed.data == array.tobytes()


def test_arrays_are_grouped_by_the_servers_limits() -> None:
    """100 images, 400,000 bytes, 2,000,000 pixels."""
    for array, rows in ((noise(250, 28, 20), 100), (noise(9, 250, 250), (400_000 - OVERHEAD) // 62_500)):
        parts = list(chunks(array, Packing.of(LIMITS, GREY)))
        assert [len(part.positions) for part in parts[:-1]] == [rows] * (len(array) // rows)
        assert sum(len(part.positions) for part in parts) == len(array)
        for part in parts:
            assert_within_limits(part)


def test_files_are_grouped_by_the_servers_limits() -> None:
    """Files of few bytes and many pixels: a message has no more pixels than the server decodes for a request."""
    page = io.BytesIO()
    Image.new("L", (800, 1000), 200).save(page, format="PNG")
    parts = list(chunks([page.getvalue()] * 5 + [photo(40, 40)] * 150, Packing.of(LIMITS, GREY)))

    assert [len(part.positions) for part in parts] == [2, 2, 100, 51]
    for part in parts:
        assert_within_limits(part)


def test_an_image_above_the_limits_of_a_request_is_shrunk() -> None:
    """3,000,000 pixels of few bytes, where a request may have 2,000,000."""
    page = io.BytesIO()
    Image.new("L", (2000, 1500), 200).save(page, format="PNG")
    (part,) = chunks([page.getvalue()], Packing.of(LIMITS, GREY))

    assert part.images.packed.data == bytes([200]) * 28 * 20


@pytest.mark.parametrize(
    ("images", "what"),
    [
        (noise(1, 100, 110), "an image of 100 x 110 has 11,000 pixels"),
        (noise(100, 110), "an image of 100 x 110 has 11,000 pixels"),
        ([Image.new("P", (110, 100))], "image 0, of 110 x 100, has 11,000 pixels"),
        ([photo(40, 40), photo(110, 100)], "image 1 has"),
    ],
)
def test_an_image_above_the_servers_limit_is_refused_before_it_is_sent(images: Any, what: str) -> None:
    """The message has the limit and the remedies."""
    packing = Packing.of(dataclasses.replace(LIMITS, max_pixels=10_000), GREY)
    remedy = "more than the limit of 10,000 per image; make it smaller, or raise --max-pixels of the server"

    with pytest.raises(InvalidRequestError, match=re.escape(what) + ".*" + re.escape(remedy)):
        list(chunks(images, packing))


def test_without_pillow_files_are_sent_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each counts as the largest that the server accepts; what is too large has the remedy."""
    monkeypatch.setattr(partedvae.image_items, "_decoding", lambda: None)
    limits = dataclasses.replace(LIMITS, max_pixels=500_000)

    parts = list(chunks([photo(400, 400)] * 9, Packing.of(limits, GREY)))
    assert [len(part.images.encoded.items) for part in parts] == [4, 4, 1]
    with pytest.raises(InvalidRequestError, match=re.escape("install Pillow, with which it is scaled down here: pip")):
        list(chunks(noise(1, 700, 700), Packing.of(limits, GREY)))


def test_replies_of_images_are_limited_too() -> None:
    """A reply has 24 x 30 x 3 bytes per image, so that 50,000 bytes hold 23, however small the images sent."""
    packing = Packing.of(dataclasses.replace(LIMITS, max_message_bytes=50_000), RGB).with_replies_of_images()

    assert [len(part.positions) for part in chunks(noise(50, 8, 6), packing)] == [23, 23, 4]


def test_one_message_has_the_servers_limits() -> None:
    """What has to fit into one message is checked by the server's limits, and the error has them."""
    message = "the bases do not fit into one message: pass at most 100 of one kind"
    with pytest.raises(InvalidRequestError, match=re.escape(message)):
        one_message(noise(101, 8, 6), "the bases", Packing.of(LIMITS, GREY))


def test_limits_of_earlier_servers() -> None:
    """A response without limits stands for those that an earlier client had."""
    assert RequestLimits.from_response(GetModelResponse()) == RequestLimits()
    message = LimitsMessage(max_message_bytes=1, max_images=2, max_pixels=3, max_request_pixels=4)
    assert RequestLimits.from_response(GetModelResponse(limits=message)) == RequestLimits(
        max_message_bytes=1, max_images=2, max_pixels=3, max_request_pixels=4
    )


def test_a_damaged_file_is_left_to_the_server(tmp_path: Path) -> None:
    """It is sent, so that one place reports it for all clients."""
    damaged = tmp_path / "a.jpg"
    damaged.write_bytes(FILES["jpeg"][:90_000])
    (part,) = chunks([damaged, b"GIF89a"], Packing.of(RequestLimits(), GREY))

    assert list(part.images.encoded.items) == [damaged.read_bytes(), b"GIF89a"]
