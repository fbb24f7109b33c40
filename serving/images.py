"""From what a caller sends to what the encoder takes: uint8 [images, height, width, channels] at the model's own size.

Rules, the same for raw pixels and files, in this order:
1. Files are PNG, JPEG or WebP. The EXIF orientation is applied; of an animation the first frame is taken; colour
   profiles are ignored.
2. 16-bit grey is scaled to 8 bits; 16-bit colour is cut to 8 bits. Palettes and 1-bit images are expanded.
3. Transparent pixels are composed over black, which is the background of the data sets and what they hold underneath.
4. Grey for a colour model is repeated three times. Colour for a grey model becomes ITU-R 601 luma (Pillow's "L").
5. Another size is resized to the model's, without keeping the aspect ratio, with Pillow's bilinear filter, which
   averages over all source pixels when it reduces.
"""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from partedvae.common.cpus import available_cpus
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

# First bytes of formats that people send by mistake, so that the message can name them.
_REFUSED = {
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"\x93NUMPY": "a NumPy array",
    b"%PDF": "PDF",
}


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
    batch = np.empty((count, spec.height, spec.width, spec.channels), dtype=np.uint8)

    def fill(start: int) -> None:
        for index in range(start, min(start + _SLICE, count)):
            batch[index] = _fit(image_at(index), spec)

    if count <= _SLICE:
        fill(0)
    else:
        for _ in _POOL.map(fill, range(0, count, _SLICE)):
            pass
    return batch


def _read_file(index: int, data: bytes, limits: ImageLimits, budget: _Budget) -> Image.Image:
    """Decode one file to a grey ("L") or colour ("RGB") image."""
    plugin = _plugin_for(index, data)
    try:
        # The plugin itself rather than Image.open, which would warn of large images by limits of its own.
        image: Image.Image = plugin(io.BytesIO(data))
        _check_pixels(index, image.width, image.height, limits)
        budget.spend(image.width * image.height)
        image.load()
        return _opaque(ImageOps.exif_transpose(image))
    except InvalidInputError:
        raise
    except Exception as error:  # Pillow's decoders raise anything from OSError to SyntaxError on damaged bytes.
        raise ImageError(index, f"damaged {plugin.format} file: {error}") from error


def _plugin_for(index: int, data: bytes) -> type[ImageFile]:
    """Choose the decoder by the first bytes."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImageFile
    if data.startswith(b"\xff\xd8\xff"):
        return JpegImageFile
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WebPImageFile
    if not data:
        raise ImageError(index, "no bytes: send a PNG, JPEG or WebP file")
    for start, name in _REFUSED.items():
        if data.startswith(start):
            raise ImageError(index, f"{name} is not supported: send a PNG, JPEG or WebP file")
    raise ImageError(index, f"not an image (it starts with {data[:8]!r}): send a PNG, JPEG or WebP file")


def _opaque(image: Image.Image) -> Image.Image:
    """Bring 16-bit grey to 8 bits and lay transparent images over black."""
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        black = Image.new("RGB", image.size)
        black.paste(colours, mask=colours.getchannel("A"))
        return black
    return image


def _fit(image: Image.Image, spec: ImageSpec) -> ImageArray:
    """Return the pixels [height, width, channels] of an image in the model's channels and size."""
    mode = "L" if spec.channels == 1 else "RGB"
    image = image if image.mode == mode else image.convert(mode)
    size = (spec.width, spec.height)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(spec.height, spec.width, spec.channels)
