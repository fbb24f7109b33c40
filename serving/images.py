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
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
from PIL import Image

from partedvae.common.cpus import available_cpus
from partedvae.common.fit import Fit
from partedvae.common.image_decoding import fit_image, from_pixels
from partedvae.common.image_structure.structure import BYTES_PER_PIXEL
from partedvae.common.memory import available_memory
from partedvae.image_fit import fit_of
from partedvae.results import ImageArray
from partedvae.serving.errors import ImageError, InvalidInputError
from partedvae.serving.image_files import decode_file, examine_file
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
    max_seconds: float = 10.0
    """Processor time for decoding an image whose structure does not bound it; for servers, which decode it in a process
    of its own."""


DEFAULT_LIMITS = ImageLimits()


def memory_limits() -> ImageLimits:
    """Return the limits of images in the caller's own process: what can be decoded in the memory that is available."""
    pixels = max(1, available_memory() // BYTES_PER_PIXEL)
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
    checked = check_packed(len(data), shape, limits)
    return from_array(np.frombuffer(data, dtype=np.uint8).reshape(checked), spec)


def check_packed(size: int, shape: Sequence[int], limits: ImageLimits) -> tuple[int, ...]:
    """Check the shape of raw pixels before anything is done with them, and return it.

    Args:
        size: number of bytes of the pixels.
        shape: see `from_packed`.
        limits: limits of the request.

    Raises:
        InvalidInputError: as for `from_packed`.
    """
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)):
        given = list(shape) if len(shape) <= 8 else f"of {len(shape):,} dimensions"
        raise InvalidInputError(
            f"images of shape {given} cannot be used: send [images, height, width] for grey, "
            "or [images, height, width, channels] with 1 or 3 channels"
        )
    shape = tuple(shape)
    check_count(shape[0], limits)
    if size != math.prod(shape):
        raise InvalidInputError(
            f"images of shape {list(shape)} need {math.prod(shape)} bytes, got {size}; send uint8, one byte per value"
        )
    height, width = shape[1:3]
    if height == 0 or width == 0:
        raise InvalidInputError(f"images of shape {list(shape)} have no pixels")
    check_pixels(0, width, height, limits)
    pixels = shape[0] * height * width
    if pixels > limits.max_request_pixels:
        PixelBudget(limits).spend(pixels)
    return shape


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
    batch = empty_batch(len(pixels), spec)
    fill(batch, range(len(pixels)), spec, lambda index: from_pixels(pixels[index]))
    return batch


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
    check_count(len(items), limits)
    budget = PixelBudget(limits)
    batch = empty_batch(len(items), spec)
    fill(batch, range(len(items)), spec, lambda index: _read_file(index, items[index], limits, budget))
    return batch


def decode_one(
    content: bytes,
    spec: ImageSpec,
    limits: ImageLimits = DEFAULT_LIMITS,
    reserve: Callable[[int], AbstractContextManager[None]] = lambda size: nullcontext(),
) -> ImageArray:
    """Decode one image file to the model's size, in the calling thread.

    Args:
        content: the bytes of the file.
        spec: the size of the model's images, and how others are fitted to it.
        limits: limits of the image.
        reserve: is called with an upper bound of the bytes that decoding allocates; the image is decoded in the block.

    Returns:
        uint8 [height, width, channels].

    Raises:
        ImageError: the file has another format, is damaged or has too many pixels.
    """
    structure = examine_file(0, content)
    check_pixels(0, structure.width, structure.height, limits)
    with reserve(structure.memory):
        image = decode_file(0, content, lambda width, height: check_pixels(0, width, height, limits))
        return fit_image(image, (spec.height, spec.width, spec.channels), _fit_of(spec))


def without(errors: list[ImageError], batch: ImageArray) -> tuple[ImageArray, list[ImageError]]:
    """Return a batch without the images that have errors, and these in order."""
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


def check_count(count: int, limits: ImageLimits) -> None:
    """Check the number of images of a request.

    Raises:
        InvalidInputError: there are none, or too many.
    """
    if count == 0:
        raise InvalidInputError("the batch is empty: send at least one image")
    if count > limits.max_images:
        raise InvalidInputError(
            f"{count} images are above the limit of {limits.max_images} per request: send them in several requests"
        )


def check_pixels(index: int, width: int, height: int, limits: ImageLimits) -> None:
    """Check the size of one image.

    Raises:
        ImageError: it has too many pixels.
    """
    if width * height > limits.max_pixels:
        raise ImageError(
            index, f"{width}x{height} pixels are above the limit of {limits.max_pixels:,}: make the image smaller"
        )


class PixelBudget:
    """The pixels that a request has left. Thread-safe; `spend` is called before an image is decoded."""

    def __init__(self, limits: ImageLimits) -> None:
        """Start with the limit of a request."""
        self._limit = self._left = limits.max_request_pixels
        self._lock = threading.Lock()

    def spend(self, pixels: int) -> None:
        """Subtract the pixels of some images from the limit.

        Raises:
            InvalidInputError: there are not as many left.
        """
        with self._lock:
            self._left -= pixels
            left = self._left
        if left < 0:
            raise InvalidInputError(
                f"the images of the request have more than {self._limit:,} pixels, which is the limit: "
                "send them in several requests, or make them smaller"
            )


def empty_batch(count: int, spec: ImageSpec) -> ImageArray:
    """Return uint8 [count, height, width, channels] of any content."""
    return np.empty((count, spec.height, spec.width, spec.channels), dtype=np.uint8)


def fill(
    batch: ImageArray, indices: Sequence[int], spec: ImageSpec, image_at: Callable[[int], Image.Image | None]
) -> None:
    """Convert images to rows of a batch, in several threads if there are many.

    Args:
        batch: uint8 [images, height, width, channels].
        indices: the rows.
        spec: the size of the model's images, and how others are fitted to it.
        image_at: returns the image of a row, or None to leave the row as it is. If it raises errors for several rows,
            the first error is raised.
    """
    size, fit = (spec.height, spec.width, spec.channels), _fit_of(spec)

    def fill_slice(start: int) -> None:
        for index in indices[start : start + _SLICE]:
            image = image_at(index)
            if image is not None:
                batch[index] = fit_image(image, size, fit)

    if len(indices) <= _SLICE:
        fill_slice(0)
    else:
        for _ in _pool().map(fill_slice, range(0, len(indices), _SLICE)):
            pass


def _fit_of(spec: ImageSpec) -> Fit:
    fit = fit_of(spec)
    assert fit is not None, "a bundle with an unknown fit is not loaded"
    return fit


def _read_file(index: int, content: bytes, limits: ImageLimits, budget: PixelBudget) -> Image.Image:
    """Examine and decode one file."""
    structure = examine_file(index, content)
    check_pixels(index, structure.width, structure.height, limits)

    def check_size(width: int, height: int) -> None:
        check_pixels(index, width, height, limits)
        budget.spend(width * height)

    return decode_file(index, content, check_size)
