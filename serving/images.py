"""Images of requests: from packed pixels or image files to what the encoder takes, within limits.

The encoder takes uint8 [images, height, width, channels] at the model's own size; `partedvae.common.image_decoding` has
the rules of conversion, which are the same for packed pixels and files.
"""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from partedvae.common.cpus import available_cpus
from partedvae.common.image_decoding import DamagedImageError, UnsupportedImageError, fit, load_pixels, open_image
from partedvae.results import ImageArray
from partedvae.serving.errors import ImageError, InvalidInputError
from partedvae.v1.manifest_pb2 import ImageSpec


@dataclass(frozen=True, kw_only=True)
class ImageLimits:
    """What one request may ask for, checked before anything is decoded or allocated."""

    max_images: int = 4096
    """Images of one request."""
    max_pixels: int = 25_000_000
    """Pixels of one image (height times width), read from the file's header."""
    max_request_pixels: int = 250_000_000
    """Pixels of all images of one request: a small file can hold many."""


DEFAULT_LIMITS = ImageLimits()

_SLICE = 16
"""Images that one thread converts at a time: enough to make handing over cheap, few enough to share evenly."""
_POOL = ThreadPoolExecutor(max_workers=available_cpus(), thread_name_prefix="partedvae-images")


def from_packed(data: bytes, shape: Sequence[int], spec: ImageSpec, limits: ImageLimits = DEFAULT_LIMITS) -> ImageArray:
    """Convert raw uint8 pixels in C order to the model's images.

    Args:
        data: the pixels.
        shape: [images, height, width] for grey, or [images, height, width, channels] with 1 or 3 channels.
        spec: the model's image size.
        limits: what is refused.

    Returns:
        uint8 [images, height, width, channels]. Without a copy, read-only, where size and channels are the model's.

    Raises:
        InvalidInputError: the batch is empty or too large, or shape and length do not fit.
    """
    shape = tuple(shape)
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)):
        raise InvalidInputError(
            f"images of shape {list(shape)} cannot be used: send [images, height, width] for grey, "
            "or [images, height, width, channels] with 1 or 3 channels"
        )
    _check_count(shape[0], limits)
    if len(data) != math.prod(shape):
        raise InvalidInputError(
            f"images of shape {list(shape)} need {math.prod(shape)} bytes, got {len(data)}; send uint8, a byte a value"
        )
    height, width = shape[1:3]
    if height == 0 or width == 0:
        raise InvalidInputError(f"images of shape {list(shape)} have no pixels")
    _check_pixels(0, width, height, limits)
    _Budget(limits).spend(shape[0] * height * width)
    pixels = np.frombuffer(data, dtype=np.uint8).reshape(shape[0], height, width, -1)
    if pixels.shape[1:] == (spec.height, spec.width, spec.channels):
        return pixels
    return _fill_batch(len(pixels), spec, lambda index: _as_pillow(pixels[index]))


def decode(items: Sequence[bytes], spec: ImageSpec, limits: ImageLimits = DEFAULT_LIMITS) -> ImageArray:
    """Decode PNG, JPEG or WebP files to the model's images, in a few threads when there are many.

    Args:
        items: the bytes of each file; sizes and modes may differ.
        spec: the model's image size.
        limits: what is refused.

    Returns:
        uint8 [images, height, width, channels].

    Raises:
        ImageError: one of them is no such file, damaged, or has too many pixels; the first such in the batch.
        InvalidInputError: the batch is empty or too large.
    """
    _check_count(len(items), limits)
    budget = _Budget(limits)
    return _fill_batch(len(items), spec, lambda index: _read_file(index, items[index], limits, budget))


def decode_each(
    items: Sequence[bytes], spec: ImageSpec, limits: ImageLimits = DEFAULT_LIMITS
) -> tuple[ImageArray, list[ImageError]]:
    """Decode files like `decode`, and leave out those that cannot be used.

    Returns:
        The others, uint8 [images, height, width, channels], perhaps none; and an error for each that was left out. Both
        in order.

    Raises:
        InvalidInputError: the batch is empty or too large.
    """
    _check_count(len(items), limits)
    budget = _Budget(limits)
    errors: list[ImageError] = []

    def read(index: int) -> Image.Image:
        try:
            return _read_file(index, items[index], limits, budget)
        except ImageError as error:
            errors.append(error)
            return Image.new("L", (spec.width, spec.height))  # Holds the place until the rows are known.

    batch = _fill_batch(len(items), spec, read)
    errors.sort(key=lambda error: error.index)  # Several threads may have found them.
    return np.delete(batch, [error.index for error in errors], axis=0) if errors else batch, errors


def encode_png(images: ImageArray) -> list[bytes]:
    """Encode uint8 [images, height, width, channels] as PNG files, grey or RGB."""
    files = []
    for image in images:
        file = io.BytesIO()
        _as_pillow(image).save(file, format="PNG")
        files.append(file.getvalue())
    return files


def _as_pillow(pixels: ImageArray) -> Image.Image:
    """Wrap uint8 [height, width, channels], grey or RGB."""
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _check_count(count: int, limits: ImageLimits) -> None:
    if count == 0:
        raise InvalidInputError("the batch is empty: send at least one image")
    if count > limits.max_images:
        raise InvalidInputError(
            f"{count} images are above the limit of {limits.max_images} a request: send them in several requests"
        )


def _check_pixels(index: int, width: int, height: int, limits: ImageLimits) -> None:
    if width * height > limits.max_pixels:
        raise ImageError(
            index, f"{width}x{height} pixels are above the limit of {limits.max_pixels:,}: make the image smaller"
        )


class _Budget:
    """The pixels that one request may still have. Spent before an image is decoded, in any thread."""

    def __init__(self, limits: ImageLimits) -> None:
        self._most = self._left = limits.max_request_pixels
        self._lock = threading.Lock()

    def spend(self, pixels: int) -> None:
        with self._lock:
            self._left -= pixels
            left = self._left
        if left < 0:
            raise InvalidInputError(
                f"the images of the request have more than {self._most:,} pixels, which is the limit: "
                "send them in several requests, or make them smaller"
            )


def _fill_batch(count: int, spec: ImageSpec, image_at: Callable[[int], Image.Image]) -> ImageArray:
    """Convert `image_at(0)`, `image_at(1)`, … into one batch; of several errors the first is raised."""
    size = (spec.height, spec.width, spec.channels)
    batch = np.empty((count, *size), dtype=np.uint8)

    def fill(start: int) -> None:
        for index in range(start, min(start + _SLICE, count)):
            batch[index] = fit(image_at(index), size)

    if count <= _SLICE:
        fill(0)
    else:
        for _ in _POOL.map(fill, range(0, count, _SLICE)):
            pass
    return batch


def _read_file(index: int, data: bytes, limits: ImageLimits, budget: _Budget) -> Image.Image:
    """Decode one file, after its size has been checked."""
    try:
        image = open_image(io.BytesIO(data))
        _check_pixels(index, image.width, image.height, limits)
        budget.spend(image.width * image.height)
        return load_pixels(image)
    except UnsupportedImageError as error:
        raise ImageError(index, f"{error}: send a PNG, JPEG or WebP file") from error
    except DamagedImageError as error:
        raise ImageError(index, str(error)) from error
