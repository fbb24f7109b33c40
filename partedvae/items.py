"""One image as the user has it (an array, a file, bytes, a PIL image) becomes pixels or file bytes that can be sent."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol, TypeAlias, TypeGuard

import numpy as np

from partedvae.errors import InvalidRequestError
from partedvae.results import ImageArray

MAX_BYTES = 3_584 * 1024
"""Pixels or file bytes in one message; below gRPC's usual limit of 4 MiB with room for the rest of the message."""


class PILImage(Protocol):
    """What is needed of a Pillow image, so that Pillow itself is not."""

    @property
    def mode(self) -> str:
        """What a pixel is, "L" or "RGB" for instance."""

    @property
    def info(self) -> Mapping[Any, Any]:
        """What the file said beside the pixels."""

    def convert(self, mode: str, /) -> Any:
        """Return the image in another mode."""

    def save(self, fp: IO[bytes], /, format: str) -> None:
        """Write the image as a file."""


ImageItem: TypeAlias = ImageArray | str | os.PathLike[str] | bytes | PILImage
ImageInput: TypeAlias = ImageItem | Iterable[ImageItem]
"""One image or many. Arrays are uint8: [height, width], [count, height, width] or [count, height, width, channels]
with 1 or 3 channels; in a list or an iterator [height, width], [height, width, channels], or several images at once
as [count, height, width, channels]. A str is a path; bytes are a file's.
Of a file the server applies the EXIF orientation; a PIL image is taken as its pixels are."""

_PNG_MODES = ("1", "LA", "P", "RGBA", "I", "I;16", "I;16B")
"""Pillow's modes beside L and RGB that a PNG can hold."""


def content_of(item: ImageItem, index: int) -> tuple[bytes | ImageArray, str]:
    """Return an item's file bytes or its pixels, and the name of its file."""
    if isinstance(item, (str, os.PathLike)):
        data, name = Path(item).read_bytes(), os.fspath(item)
        _check_size(len(data), f"image {index} ({name})")
        return data, name
    if isinstance(item, bytes):
        _check_size(len(item), f"image {index}")
        return item, ""
    if is_pil(item):
        if item.mode in _PNG_MODES or "transparency" in item.info:
            # The server's rules for palettes, transparency and 16 bits then hold for them as for files.
            png = io.BytesIO()
            item.save(png, format="PNG")
            return content_of(png.getvalue(), index)
        item = np.asarray(item if item.mode in ("L", "RGB") else item.convert("RGB"))
    if not isinstance(item, np.ndarray):
        raise InvalidRequestError(f"image {index}: {not_an_image(item)}")
    if item.ndim not in (2, 3):
        raise InvalidRequestError(
            f"image {index}: an array in a list is [height, width], [height, width, channels] or "
            f"[count, height, width, channels], not of shape {list(item.shape)}"
        )
    check_pixels(item.dtype, item.shape, f"image {index}")
    return item, ""


def check_pixels(dtype: np.dtype[Any], shape: Sequence[int], where: str) -> None:
    """Refuse an image that is not uint8 [height, width] or [height, width, 1 or 3], or too large for a message."""
    if dtype != np.uint8:
        remedy = (
            "; scale it to 0..255 and convert: (x * 255).round().astype(np.uint8) if x is in 0..1"
            if np.issubdtype(dtype, np.floating)
            else "; convert it with .astype(np.uint8) if its values are 0..255"
        )
        raise InvalidRequestError(f"{where} is {dtype}, images are uint8{remedy}")
    if len(shape) == 3 and shape[-1] not in (1, 3):
        raise InvalidRequestError(
            f"{where} has {shape[-1]} channels, images have 1 (grey) or 3 (RGB), as the last axis"
        )
    if 0 in shape:
        raise InvalidRequestError(f"{where} has images without pixels, {' x '.join(map(str, shape))}")
    _check_size(math.prod(shape), f"an image of {' x '.join(map(str, shape))}")


def _check_size(size: int, what: str) -> None:
    if size > MAX_BYTES:
        raise InvalidRequestError(
            f"{what} has {size:,} bytes and a message takes {MAX_BYTES:,}; scale it down or send it as JPEG"
        )


def is_pil(item: object) -> TypeGuard[PILImage]:
    """Tell whether something is an image of Pillow's."""
    return hasattr(item, "mode") and hasattr(item, "convert")


def not_an_image(item: object) -> str:
    """Say that something is no image, and what would be."""
    return f"{type(item).__name__} is no image; give a uint8 numpy array, a path, a file's bytes or a PIL image"
