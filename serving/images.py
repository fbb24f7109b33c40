"""Images of requests: converts packed pixels and image files to the encoder's input, within limits.

The encoder's input is uint8 [images, height, width, channels] at the model's size. The rules of conversion are those of
`partedvae.common.image_decoding`, for packed pixels and for files.
"""

from __future__ import annotations

import functools
import io
import math
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from partedvae.common.cpus import available_cpus
from partedvae.common.image_decoding import (
    FORMATS,
    DamagedImageError,
    UnsupportedImageError,
    fit_image,
    from_pixels,
    load_pixels,
    open_image,
)
from partedvae.common.memory import available_memory
from partedvae.image_fit import fit_of
from partedvae.results import ImageArray
from partedvae.serving.errors import ImageError, InvalidInputError
from partedvae.v1.manifest_pb2 import ImageSpec
from partedvae.v1.tensors_pb2 import Images


@dataclass(frozen=True, kw_only=True)
class ImageLimits:
    """Limits of one request, checked before anything is decoded or allocated."""

    max_images: int = 4096
    """Images per request."""
    max_pixels: int = 25_000_000
    """Pixels per image (height times width), read from the file's header."""
    max_request_pixels: int = 250_000_000
    """Pixels of all images of a request: a small file can hold many."""


DEFAULT_LIMITS = ImageLimits()


_BYTES_PER_PIXEL = 16
"""Memory for a pixel of an image while it is decoded: Pillow has 4 bytes per pixel and image, and holds up to three:
the decoded one, the upright one and the opaque one. A quarter is left for the rest of the process."""


def memory_limits() -> ImageLimits:
    """Return the limits of images in the caller's own process: what can be decoded in the memory that is available."""
    pixels = max(1, available_memory() // _BYTES_PER_PIXEL)
    return ImageLimits(max_images=sys.maxsize, max_pixels=pixels, max_request_pixels=sys.maxsize)


_SLICE = 16
"""Images per task of the thread pool: enough to amortise its overhead, few enough to balance the threads."""


@functools.cache
def _pool() -> ThreadPoolExecutor:
    """Return the threads that convert large batches, created on first use and shared by the process."""
    return ThreadPoolExecutor(max_workers=available_cpus(), thread_name_prefix="partedvae-images")


def from_message(message: Images, spec: ImageSpec, limits: ImageLimits = DEFAULT_LIMITS) -> ImageArray:
    """Return uint8 [images, height, width, channels] at the model's size.

    Raises:
        InvalidInputError: no images are set, or they cannot be used; see `partedvae.serving.images`.
    """
    match message.WhichOneof("source"):
        case "packed":
            return from_packed(message.packed.data, message.packed.shape, spec, limits)
        case "encoded":
            return decode(message.encoded.items, spec, limits)
        case _:
            raise InvalidInputError("no images: set images.packed or images.encoded")


def count_images(message: Images) -> int:
    """Return the number of images of a message, as it claims: shapes are not checked yet."""
    return len(message.encoded.items) or next(iter(message.packed.shape), 0)


def from_packed(data: bytes, shape: Sequence[int], spec: ImageSpec, limits: ImageLimits = DEFAULT_LIMITS) -> ImageArray:
    """Convert raw uint8 pixels in C order to the model's images.

    Args:
        data: the pixels.
        shape: [images, height, width] for grey, or [images, height, width, channels] with 1 or 3 channels.
        spec: the size of the model's images, and how others are fitted to it.
        limits: limits of the request.

    Returns:
        uint8 [images, height, width, channels]; a read-only view of `data` if size and channels are the model's.

    Raises:
        InvalidInputError: the batch is empty or too large, or shape and length do not match.
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
            f"images of shape {list(shape)} need {math.prod(shape)} bytes, got {len(data)}; send uint8, "
            "one byte per value"
        )
    height, width = shape[1:3]
    if height == 0 or width == 0:
        raise InvalidInputError(f"images of shape {list(shape)} have no pixels")
    _check_pixels(0, width, height, limits)
    _Budget(limits).spend(shape[0] * height * width)
    return from_array(np.frombuffer(data, dtype=np.uint8).reshape(shape), spec)


def from_array(array: ImageArray, spec: ImageSpec) -> ImageArray:
    """Convert an array, which may be memory-mapped, to the model's images, one image at a time.

    Args:
        array: uint8 [images, height, width], or [images, height, width, channels] with 1 or 3 channels.
        spec: the size of the model's images, and how others are fitted to it.

    Returns:
        uint8 [images, height, width, channels]; a view if size and channels are the model's.
    """
    pixels = array if array.ndim == 4 else array[..., np.newaxis]
    if pixels.shape[1:] == (spec.height, spec.width, spec.channels):
        return pixels
    return _fill_batch(len(pixels), spec, lambda index: from_pixels(pixels[index]))


def decode(items: Sequence[bytes], spec: ImageSpec, limits: ImageLimits = DEFAULT_LIMITS) -> ImageArray:
    """Decode image files to the model's images, in several threads if there are many.

    Args:
        items: the bytes of each file; sizes and modes may differ.
        spec: the size of the model's images, and how others are fitted to it.
        limits: limits of the request.

    Returns:
        uint8 [images, height, width, channels].

    Raises:
        ImageError: the first file of the batch that has another format, is damaged or has too many pixels.
        InvalidInputError: the batch is empty or too large.
    """
    _check_count(len(items), limits)
    budget = _Budget(limits)
    return _fill_batch(len(items), spec, lambda index: _read_file(index, items[index], limits, budget))


def decode_each(
    items: Sequence[bytes], spec: ImageSpec, limits: ImageLimits = DEFAULT_LIMITS
) -> tuple[ImageArray, list[ImageError]]:
    """Decode files like `decode`, and skip those that cannot be used.

    Returns:
        The usable images, uint8 [images, height, width, channels], possibly none; and an error per skipped image. Both
        are in order.

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
            return Image.new("L", (spec.width, spec.height))  # A placeholder, deleted below.

    batch = _fill_batch(len(items), spec, read)
    errors.sort(key=lambda error: error.index)  # Threads may have found them in another order.
    return np.delete(batch, [error.index for error in errors], axis=0) if errors else batch, errors


def encode_png(images: ImageArray) -> list[bytes]:
    """Encode uint8 [images, height, width, channels] as PNG files, grey or RGB."""
    files = []
    for image in images:
        file = io.BytesIO()
        from_pixels(image).save(file, format="PNG")
        files.append(file.getvalue())
    return files


def _check_count(count: int, limits: ImageLimits) -> None:
    if count == 0:
        raise InvalidInputError("the batch is empty: send at least one image")
    if count > limits.max_images:
        raise InvalidInputError(
            f"{count} images are above the limit of {limits.max_images} per request: send them in several requests"
        )


def _check_pixels(index: int, width: int, height: int, limits: ImageLimits) -> None:
    if width * height > limits.max_pixels:
        raise ImageError(
            index, f"{width}x{height} pixels are above the limit of {limits.max_pixels:,}: make the image smaller"
        )


class _Budget:
    """The pixels that a request has left. Thread-safe; `spend` is called before an image is decoded."""

    def __init__(self, limits: ImageLimits) -> None:
        self._limit = self._left = limits.max_request_pixels
        self._lock = threading.Lock()

    def spend(self, pixels: int) -> None:
        with self._lock:
            self._left -= pixels
            left = self._left
        if left < 0:
            raise InvalidInputError(
                f"the images of the request have more than {self._limit:,} pixels, which is the limit: "
                "send them in several requests, or make them smaller"
            )


def _fill_batch(count: int, spec: ImageSpec, image_at: Callable[[int], Image.Image]) -> ImageArray:
    """Convert `image_at(0)`, `image_at(1)`, … to one batch; if several fail, the first error is raised."""
    size, fit = (spec.height, spec.width, spec.channels), fit_of(spec)
    assert fit is not None, "a bundle with an unknown fit is not loaded"
    batch = np.empty((count, *size), dtype=np.uint8)

    def fill(start: int) -> None:
        for index in range(start, min(start + _SLICE, count)):
            batch[index] = fit_image(image_at(index), size, fit)

    if count <= _SLICE:
        fill(0)
    else:
        for _ in _pool().map(fill, range(0, count, _SLICE)):
            pass
    return batch


def _read_file(index: int, data: bytes, limits: ImageLimits, budget: _Budget) -> Image.Image:
    """Decode one file after checking its size."""
    try:
        image = open_image(io.BytesIO(data))
        _check_pixels(index, image.width, image.height, limits)
        budget.spend(image.width * image.height)
        return load_pixels(image)
    except UnsupportedImageError as error:
        raise ImageError(index, f"{error}: send a {FORMATS} file") from error
    except DamagedImageError as error:
        raise ImageError(index, str(error)) from error
