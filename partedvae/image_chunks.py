"""Images to messages, in chunks: arrays, files, bytes and Pillow images become messages that the server accepts."""

from __future__ import annotations

import io
import itertools
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard, cast

import numpy as np

from partedvae.errors import InvalidRequestError
from partedvae.results import ImageArray, ImageProblem
from partedvae.v1.tensors_pb2 import EncodedImages, Images, PackedImages

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

MAX_IMAGES = 1024
"""Images per message."""
MAX_BYTES = 3_584 * 1024
"""Bytes of pixels or files per message; below gRPC's default limit of 4 MiB, which includes the other fields."""

ImageItem: TypeAlias = "ImageArray | str | os.PathLike[str] | bytes | PillowImage"
ImageInput: TypeAlias = "ImageItem | Iterable[ImageItem]"
"""One image or many. Arrays are uint8: [height, width], [count, height, width] or [count, height, width, channels]
with 1 or 3 channels; in a list or an iterator [height, width], [height, width, channels], or several images at once
as [count, height, width, channels]. A str is a path; bytes are the content of a file.
The server applies the EXIF orientation of a file; a Pillow image is sent as it is."""

_PNG_MODES = ("1", "LA", "P", "RGBA", "I", "I;16", "I;16B")
"""Pillow's modes besides L and RGB that a PNG can hold."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Images of a call that are sent in one message."""

    images: Images
    positions: Sequence[int]
    """Position of each image in the call."""
    problems: tuple[ImageProblem, ...] = ()
    """Unreadable images of the call before these, where unreadable images are skipped."""
    names: tuple[str, ...] = ()
    """File name of each image; empty for arrays, an empty string where an item of a list is not a file."""

    def name_of(self, index: int) -> str:
        """Return the file name of an image of this message; empty where it has none."""
        return self.names[index] if index < len(self.names) else ""

    def locate(self, message: str) -> str:
        """Replace "image N" in a server's message by the position in the call, and the file name where there is one."""

        def located(match: re.Match[str]) -> str:
            index = int(match[1])
            if index >= len(self.positions):
                return match[0]
            name = self.name_of(index)
            return f"image {self.positions[index]}" + (f" ({name})" if name else "")

        return re.sub(r"\bimage (\d+)\b", located, message)


def count_of(images: ImageInput) -> int | None:
    """Return the number of images, None where it is not known in advance."""
    if isinstance(images, np.ndarray):
        return len(images) if images.ndim > 2 else 1
    if isinstance(images, (str, os.PathLike, bytes)) or _is_pillow(images):
        return 1
    return len(images) if isinstance(images, Sized) else None


def one_message(images: ImageInput, what: str) -> Images:
    """Return images as one message.

    Args:
        images: the call's.
        what: their name in the error.

    Raises:
        InvalidRequestError: they do not fit into one message, or cannot be used.
        OSError: a file cannot be read.
    """
    first, *others = itertools.islice(chunks(images), 2)
    if others:
        raise InvalidRequestError(
            f"{what} do not fit into one message: pass at most {MAX_IMAGES} of one kind, {MAX_BYTES:,} bytes in all"
        )
    return first.images


def chunks(images: ImageInput, *, skip_unreadable: bool = False) -> Iterator[Chunk]:
    """Split images into messages, in order; files are read when their chunk is built.

    Args:
        images: the call's.
        skip_unreadable: report an item of a list that cannot be read or sent as a problem of the next chunk instead of
            raising an error. The last chunk may then have problems only.

    Raises:
        InvalidRequestError: there are no images, one is too large for a message, or an array is not uint8 images.
        OSError: a file cannot be read.
    """
    if isinstance(images, np.ndarray):
        yield from _array_chunks(images)
        return
    if isinstance(images, (str, os.PathLike, bytes)) or _is_pillow(images):
        items: Iterable[ImageItem] = [cast("ImageItem", images)]
    elif isinstance(images, Iterable):
        items = images
    else:
        raise InvalidRequestError(_not_an_image(images))
    empty = True
    for chunk in _item_chunks(items, skip_unreadable=skip_unreadable):
        empty = False
        yield chunk
    if empty:
        raise InvalidRequestError("there are no images in the call; pass at least one")


def _array_chunks(array: ImageArray, position: int = 0) -> Iterator[Chunk]:
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
        raise InvalidRequestError(f"there are no images in an array of shape {list(array.shape)}; pass at least one")
    rows = min(MAX_IMAGES, MAX_BYTES // (array.nbytes // len(array)))
    for first in range(0, len(array), rows):
        part = array[first : first + rows]
        yield Chunk(images=_packed(part), positions=range(position + first, position + first + len(part)))


def _item_chunks(items: Iterable[ImageItem], *, skip_unreadable: bool) -> Iterator[Chunk]:
    """Gather consecutive items of one kind (files, or pixels of one shape) as long as they fit into a message."""
    builder = _ChunkBuilder()
    index = -1
    for item in items:
        index += 1
        if isinstance(item, np.ndarray) and item.ndim == 4:
            if builder.contents or builder.problems:
                yield builder.chunk()
                builder = _ChunkBuilder()
            yield from _array_chunks(item, index)
            index += len(item) - 1
            continue
        try:
            content, name = _content_of(item, index)
        except (InvalidRequestError, OSError) as error:
            if not skip_unreadable:
                raise
            name = os.fspath(item) if isinstance(item, (str, os.PathLike)) else ""
            reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            builder.problems.append(ImageProblem(index=index, name=name, reason=reason))
            continue
        if not builder.fits(content):
            yield builder.chunk()
            builder = _ChunkBuilder()
        builder.add(content, index, name)
    if builder.contents or builder.problems:
        yield builder.chunk()


class _ChunkBuilder:
    """The items of the next message."""

    def __init__(self) -> None:
        self.contents: list[bytes | ImageArray] = []
        self.problems: list[ImageProblem] = []
        self._names: list[str] = []
        self._positions: list[int] = []
        self._size = 0

    def fits(self, content: bytes | ImageArray) -> bool:
        if not self.contents:
            return True
        full = len(self.contents) == MAX_IMAGES or self._size + _length(content) > MAX_BYTES
        return not full and _kind(content) == _kind(self.contents[-1])

    def add(self, content: bytes | ImageArray, position: int, name: str) -> None:
        self.contents.append(content)
        self._names.append(name)
        self._positions.append(position)
        self._size += _length(content)

    def chunk(self) -> Chunk:
        return Chunk(
            images=_message(self.contents) if self.contents else Images(),
            positions=tuple(self._positions),
            names=tuple(self._names),
            problems=tuple(self.problems),
        )


def _content_of(item: ImageItem, index: int) -> tuple[bytes | ImageArray, str]:
    """Return an item's file content or its pixels, and its file name."""
    if isinstance(item, (str, os.PathLike)):
        data, name = Path(item).read_bytes(), os.fspath(item)
        _check_size(len(data), f"image {index} ({name})")
        return data, name
    if isinstance(item, bytes):
        _check_size(len(item), f"image {index}")
        return item, ""
    if _is_pillow(item):
        if item.mode in _PNG_MODES or "transparency" in item.info:
            # The server then treats palettes, transparency and 16 bits as it does in files.
            png = io.BytesIO()
            item.save(png, format="PNG")
            return _content_of(png.getvalue(), index)
        item = np.asarray(item if item.mode in ("L", "RGB") else item.convert("RGB"))
    if not isinstance(item, np.ndarray):
        raise InvalidRequestError(f"image {index}: {_not_an_image(item)}")
    if item.ndim not in (2, 3):
        raise InvalidRequestError(
            f"image {index}: an array in a list is [height, width], [height, width, channels] or "
            f"[count, height, width, channels], not of shape {list(item.shape)}"
        )
    _check_pixels(item.dtype, item.shape, f"image {index}")
    return item, ""


def _check_pixels(dtype: np.dtype[Any], shape: Sequence[int], where: str) -> None:
    """Check that an image is uint8 [height, width] or [height, width, 1 or 3] and fits into a message."""
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
            f"{what} has {size:,} bytes, more than the {MAX_BYTES:,} of a message; scale it down or send it as JPEG"
        )


def _is_pillow(item: object) -> TypeGuard[PillowImage]:
    """Return whether an object is a Pillow image, without importing Pillow: where it is not imported, there is none."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(item, pillow.Image)


def _not_an_image(item: object) -> str:
    return (
        f"{type(item).__name__} is not an image; "
        "pass a uint8 NumPy array, a path, the content of a file as bytes, or a Pillow image"
    )


def _length(content: bytes | ImageArray) -> int:
    return len(content) if isinstance(content, bytes) else content.nbytes


def _kind(content: bytes | ImageArray) -> tuple[int, ...]:
    return () if isinstance(content, bytes) else content.shape


def _message(contents: Sequence[bytes | ImageArray]) -> Images:
    files = [content for content in contents if isinstance(content, bytes)]
    if files:
        return Images(encoded=EncodedImages(items=files))
    return _packed(np.stack([content for content in contents if not isinstance(content, bytes)]))


def _packed(array: ImageArray) -> Images:
    return Images(packed=PackedImages(data=array.tobytes(), shape=array.shape))
