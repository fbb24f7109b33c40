"""From what the user has to messages that fit: arrays, files, bytes and PIL images become chunks of one call."""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, TypeAlias, TypeGuard, cast

import numpy as np

from partedvae.errors import InvalidRequestError
from partedvae.results import ImageArray
from partedvae.v1.tensors_pb2 import EncodedImages, Images, PackedImages

MAX_BYTES = 3_584 * 1024
"""Pixels or file bytes in one message; below gRPC's usual limit of 4 MiB with room for the rest of the message."""
MAX_IMAGES = 1024
"""Images in one message."""


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
with 1 or 3 channels; in a list [height, width] or [height, width, channels]. A str is a path; bytes are a file's.
Of a file the server applies the EXIF orientation; a PIL image is taken as its pixels are."""

_PNG_MODES = ("1", "LA", "P", "RGBA", "I", "I;16", "I;16B")
"""Pillow's modes beside L and RGB that a PNG can hold."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Images of a call that travel in one message."""

    images: Images
    first: int
    """Position of its first image in the call."""
    names: tuple[str, ...] = ()
    """File name of each image; empty for arrays, an empty string where an item of a list is no file."""

    def locate(self, message: str) -> str:
        """Say "image N" of a server's message as the caller counts, with the file's name where there is one."""

        def located(match: re.Match[str]) -> str:
            index = int(match[1])
            name = self.names[index] if index < len(self.names) else ""
            return f"image {self.first + index}" + (f" ({name})" if name else "")

        return re.sub(r"\bimage (\d+)\b", located, message)


def chunks(images: ImageInput) -> Iterator[Chunk]:
    """Split images into messages that fit, in order; files are read as their chunk's turn comes.

    Raises:
        InvalidRequestError: there are no images, one is too large for a message, or an array is not uint8 images.
        OSError: a file cannot be read.
    """
    if isinstance(images, np.ndarray):
        yield from _array_chunks(images)
        return
    if isinstance(images, (str, os.PathLike, bytes)) or _is_pil(images):
        items: Iterable[ImageItem] = [cast(ImageItem, images)]
    elif isinstance(images, Iterable):
        items = images
    else:
        raise InvalidRequestError(_not_an_image(images))
    empty = True
    for chunk in _item_chunks(items):
        empty = False
        yield chunk
    if empty:
        raise InvalidRequestError("there are no images in the call; give at least one")


def _array_chunks(array: ImageArray) -> Iterator[Chunk]:
    array = array[np.newaxis] if array.ndim == 2 else array
    if array.ndim not in (3, 4):
        raise InvalidRequestError(
            f"an array of images is [count, height, width] or [count, height, width, channels], "
            f"not of shape {list(array.shape)}"
        )
    if array.ndim == 3 and array.shape[2] in (1, 3):
        raise InvalidRequestError(
            f"an array of shape {list(array.shape)} could be one image or {array.shape[0]}; "
            "for one image with channels write images[None], for many images without channels images[..., None]"
        )
    _check_pixels(array.dtype, array.shape[1:], "the array")
    if not len(array):
        raise InvalidRequestError(f"there are no images in an array of shape {list(array.shape)}; give at least one")
    rows = min(MAX_IMAGES, MAX_BYTES // (array.nbytes // len(array)))
    for first in range(0, len(array), rows):
        yield Chunk(images=_packed(array[first : first + rows]), first=first)


def _item_chunks(items: Iterable[ImageItem]) -> Iterator[Chunk]:
    """Gather consecutive items of one kind (files, or pixels of one shape) as long as they fit in a message."""
    first, size = 0, 0
    gathered: list[bytes | ImageArray] = []
    names: list[str] = []
    for index, item in enumerate(items):
        content, name = _content(item, index)
        length = len(content) if isinstance(content, bytes) else content.nbytes
        full = len(gathered) == MAX_IMAGES or size + length > MAX_BYTES
        if gathered and (full or _kind(content) != _kind(gathered[-1])):
            yield Chunk(images=_message(gathered), first=first, names=tuple(names))
            first, size, gathered, names = index, 0, [], []
        gathered.append(content)
        names.append(name)
        size += length
    if gathered:
        yield Chunk(images=_message(gathered), first=first, names=tuple(names))


def _content(item: ImageItem, index: int) -> tuple[bytes | ImageArray, str]:
    """Return an item's file bytes or its pixels, and the name of its file."""
    if isinstance(item, (str, os.PathLike)):
        data, name = Path(item).read_bytes(), os.fspath(item)
        _check_size(len(data), f"image {index} ({name})")
        return data, name
    if isinstance(item, bytes):
        _check_size(len(item), f"image {index}")
        return item, ""
    if _is_pil(item):
        if item.mode in _PNG_MODES or "transparency" in item.info:
            # The server's rules for palettes, transparency and 16 bits then hold for them as for files.
            png = io.BytesIO()
            item.save(png, format="PNG")
            return _content(png.getvalue(), index)
        item = np.asarray(item if item.mode in ("L", "RGB") else item.convert("RGB"))
    if not isinstance(item, np.ndarray):
        raise InvalidRequestError(f"image {index}: {_not_an_image(item)}")
    if item.ndim not in (2, 3):
        raise InvalidRequestError(
            f"image {index}: an array in a list is [height, width] or [height, width, channels], "
            f"not of shape {list(item.shape)}"
        )
    _check_pixels(item.dtype, item.shape, f"image {index}")
    return item, ""


def _check_pixels(dtype: np.dtype[Any], shape: Sequence[int], where: str) -> None:
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


def _is_pil(item: object) -> TypeGuard[PILImage]:
    return hasattr(item, "mode") and hasattr(item, "convert")


def _not_an_image(item: object) -> str:
    return f"{type(item).__name__} is no image; give a uint8 numpy array, a path, a file's bytes or a PIL image"


def _kind(content: bytes | ImageArray) -> tuple[int, ...]:
    return () if isinstance(content, bytes) else content.shape


def _message(contents: Sequence[bytes | ImageArray]) -> Images:
    files = [content for content in contents if isinstance(content, bytes)]
    if files:
        return Images(encoded=EncodedImages(items=files))
    return _packed(np.stack([content for content in contents if not isinstance(content, bytes)]))


def _packed(array: ImageArray) -> Images:
    return Images(packed=PackedImages(data=array.tobytes(), shape=array.shape))
