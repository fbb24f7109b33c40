"""Single images to what a message holds: the content of a file, or pixels, shrunk to the model's size if far larger.

An image is shrunk by the code with which the server resizes (`partedvae.common.image_decoding`), so that the model gets
the same pixels, bit for bit if both sides have the same version of Pillow.
"""

from __future__ import annotations

import functools
import io
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np

from partedvae.common.image_formats import UnsupportedImageError
from partedvae.common.image_structure import ExcessiveImageError, examine
from partedvae.errors import InvalidRequestError
from partedvae.image_arrays import channels_remedy, dtype_remedy, unmasked
from partedvae.packing import Packing
from partedvae.results import ImageArray

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

ImageItem: TypeAlias = "ImageArray | str | os.PathLike[str] | bytes | bytearray | memoryview | PillowImage"
ImageInput: TypeAlias = "ImageItem | Iterable[ImageItem]"
"""One image or many. Arrays are uint8: [height, width], [count, height, width] or [count, height, width, channels]
with 1 or 3 channels; in a list or an iterator [height, width], [height, width, channels], or several images at once
as [count, height, width, channels]. A str is a path; bytes, bytearray and memoryview are the content of a file. Pillow
images have any mode but "I" and "F". The EXIF orientation of a file is applied; a Pillow image is used as it is."""

UINT8 = np.dtype(np.uint8)

_REMEDIES = {
    "I": 'convert it with image.convert("I;16") if its values are 0..65535, or with '
    "Image.fromarray(np.asarray(image).astype(np.uint8)) if they are 0..255",
    "F": 'convert it with image.convert("L") if its values are 0..255, or with '
    "Image.fromarray((np.asarray(image) * 255).round().astype(np.uint8)) if they are 0..1",
}
_OTHER_REMEDY = 'convert it with image.convert("RGB")'


@dataclass(frozen=True, kw_only=True)
class Item:
    """One image of a message."""

    content: bytes | ImageArray
    """The content of a file, or uint8 [height, width] or [height, width, channels]."""
    pixels: int
    """Height times width."""
    name: str = ""
    """File name; empty where it is not a file."""

    @property
    def size(self) -> int:
        """Bytes of the content."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.nbytes

    @property
    def kind(self) -> tuple[int, ...]:
        """What the images of a message have in common: that they are files, or the shape of their pixels."""
        return () if isinstance(self.content, bytes) else self.content.shape


def read_item(item: ImageItem, index: int, packing: Packing) -> Item:
    """Return an item of a call as it is sent.

    Args:
        item: the caller's.
        index: its position in the call, for errors.
        packing: the limits and the model's size.

    Raises:
        InvalidRequestError: it is not an image, or above a limit.
        OSError: its file cannot be read.
    """
    where = f"image {index}"
    if isinstance(item, (str, os.PathLike)):
        name = os.fspath(item)
        try:
            content = Path(item).read_bytes()
        except ValueError as error:  # a null character
            raise InvalidRequestError(f"{where}: {name!r} is not the name of a file: {error}") from error
        return _file(content, f"{where} ({name})", name, packing)
    if isinstance(item, (bytes, bytearray, memoryview)):
        return _file(bytes(item), where, "", packing)
    if is_pillow(item):
        return _pillow(item, where, packing)
    if not isinstance(item, np.ndarray):
        raise InvalidRequestError(f"{where}: {not_an_image(item)}")
    if item.ndim not in (2, 3):
        raise InvalidRequestError(
            f"{where}: an array in a list is [height, width], [height, width, channels] or "
            f"[count, height, width, channels], not of shape {list(item.shape)}"
        )
    check_array(item.dtype, item.shape, where, packing)
    return _pixels(unmasked(item, where), packing)


def check_array(dtype: np.dtype[Any], shape: Sequence[int], where: str, packing: Packing) -> None:
    """Check that an image is uint8 [height, width] or [height, width, 1 or 3], within the limits.

    Raises:
        InvalidRequestError: it is not.
    """
    if dtype != UINT8:
        raise InvalidRequestError(f"{where} is {dtype}, images are uint8; {dtype_remedy(dtype)}")
    if len(shape) == 3 and shape[-1] not in (1, 3):
        raise InvalidRequestError(
            f"{where} has {shape[-1]} channels, images have 1 (grey) or 3 (RGB), as the last axis"
            f"{channels_remedy(shape)}"
        )
    if 0 in shape:
        raise InvalidRequestError(f"{where} has images without pixels, {' x '.join(map(str, shape))}")
    size, pixels = math.prod(shape), shape[0] * shape[1]
    if pixels <= packing.limits.max_pixels and (packing.fits(size, pixels) or shrinks(size, pixels, packing)):
        return
    what = f"an image of {' x '.join(map(str, shape))}"
    _check_pixels(pixels, what, packing)
    _check_fits(size, pixels, what, packing)


def shrunk(images: Iterable[ImageArray], packing: Packing) -> list[ImageArray]:
    """Return images at the model's size, uint8 [height, width, channels]."""
    decoding = _decoding()
    assert decoding is not None
    assert packing.size is not None
    return [decoding.fit_image(decoding.from_pixels(image), packing.size, packing.fit) for image in images]


def shrinks(size: int, pixels: int, packing: Packing) -> bool:
    """Return whether an image is to be shrunk, and can be: that needs Pillow."""
    return packing.shrinks(size, pixels) and _decoding() is not None


def is_pillow(item: object) -> TypeGuard[PillowImage]:
    """Return whether an object is a Pillow image, without importing Pillow: where it is not imported, there is none."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(item, pillow.Image)


def is_one_image(images: object) -> TypeGuard[ImageItem]:
    """Return whether an argument is one image that is not an array, although some of these can be iterated over."""
    return isinstance(images, (str, os.PathLike, bytes, bytearray, memoryview)) or is_pillow(images)


def not_an_image(item: object) -> str:
    """Return the text of an error."""
    remedy = "pass a uint8 NumPy array, a path, the content of a file as bytes, or a Pillow image"
    if callable(getattr(item, "read", None)):
        remedy = "pass the content of an open file, file.read(), or its path"
    elif hasattr(item, "__array__"):
        remedy = "convert it to a NumPy array, with np.asarray(x) or as its library describes"
    return f"{type(item).__name__} is not an image; {remedy}"


def check_many(images: Iterable[object]) -> None:
    """Check that the items of a collection are images, in an order.

    Raises:
        InvalidRequestError: they are the lines of an open file, the keys of a mapping, or have no order.
    """
    kind = type(images).__name__
    if callable(getattr(images, "read", None)):
        raise InvalidRequestError(not_an_image(images))
    if isinstance(images, Mapping):
        raise InvalidRequestError(f"{kind} is not a list of images; pass list(images.values())")
    if isinstance(images, Set):
        raise InvalidRequestError(f"{kind} has no order, in which results are returned; pass a list")


@functools.cache
def _decoding() -> ModuleType | None:
    """Return the code that the server decodes with, None where Pillow is not installed."""
    try:
        from partedvae.common import image_decoding
    except ModuleNotFoundError:
        return None
    return image_decoding


def _file(data: bytes, what: str, name: str, packing: Packing) -> Item:
    decoding = _decoding()
    if decoding is None:
        # The header is not read, so the file is counted as the largest that the server accepts.
        pixels = min(packing.limits.max_pixels, packing.limits.max_request_pixels)
        _check_fits(len(data), pixels, what, packing)
        return Item(content=data, pixels=pixels, name=name)
    try:
        examine(data)
        image = decoding.open_image(io.BytesIO(data))
        pixels = image.width * image.height
        _check_pixels(pixels, what, packing)
        if packing.shrinks(len(data), pixels):
            fitted = decoding.fit_image(decoding.load_pixels(image), packing.size, packing.fit)
            return Item(content=fitted, pixels=fitted.shape[0] * fitted.shape[1], name=name)
    except (UnsupportedImageError, decoding.DamagedImageError, ExcessiveImageError) as error:
        if len(data) > packing.max_image_bytes or packing.uniform:
            raise InvalidRequestError(f"{what}: {error}; replace it") from error
        return Item(content=data, pixels=0, name=name)  # The server reports it, as it does for all clients.
    _check_fits(len(data), pixels, what, packing)
    return Item(content=data, pixels=pixels, name=name)


def _pillow(image: PillowImage, where: str, packing: Packing) -> Item:
    decoding = _decoding()
    assert decoding is not None, "a Pillow image without Pillow"
    pixels = image.width * image.height
    if not pixels:
        raise InvalidRequestError(f"{where} has no pixels: it is {image.width} x {image.height}")
    _check_pixels(pixels, f"{where}, of {image.width} x {image.height},", packing)
    try:
        decoding.check_mode(image)
    except UnsupportedImageError as error:
        raise InvalidRequestError(f"{where}: {error}; {_REMEDIES.get(image.mode, _OTHER_REMEDY)}") from error
    try:
        if image.mode in ("L", "RGB") and "transparency" not in image.info:
            plain = np.asarray(image)
        elif packing.size is not None:
            # All other modes are converted here: no message could hold each of them as a file does.
            plain = decoding.fit_image(decoding.opaque(image), packing.size, packing.fit)
        else:
            plain = np.asarray(decoding.opaque(image).convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:  # Pillow opens files lazily: this one is damaged.
        raise InvalidRequestError(f"{where}: Pillow cannot decode it: {error}; replace it") from error
    check_array(plain.dtype, plain.shape, where, packing)
    return _pixels(plain, packing)


def _pixels(array: ImageArray, packing: Packing) -> Item:
    if shrinks(array.nbytes, array.shape[0] * array.shape[1], packing):
        (array,) = shrunk([array], packing)
    return Item(content=array, pixels=array.shape[0] * array.shape[1])


def _check_pixels(pixels: int, what: str, packing: Packing) -> None:
    limit = packing.limits.max_pixels
    if pixels > limit:
        raise InvalidRequestError(
            f"{what} has {pixels:,} pixels, more than the limit of {limit:,} per image; make it smaller, or raise "
            "--max-pixels of the server"
        )


def _check_fits(size: int, pixels: int, what: str, packing: Packing) -> None:
    if packing.fits(size, pixels):
        return
    remedy = "scale it down or send it as JPEG"
    if packing.size is not None and _decoding() is None:
        remedy += ", or install Pillow, with which it is scaled down here: pip install 'partedvae[images]'"
    if size > packing.max_image_bytes:
        limit = packing.max_image_bytes
        raise InvalidRequestError(f"{what} has {size:,} bytes, more than the {limit:,} of a message; {remedy}")
    limit = packing.limits.max_request_pixels
    raise InvalidRequestError(f"{what} has {pixels:,} pixels, more than the {limit:,} of a request; {remedy}")
