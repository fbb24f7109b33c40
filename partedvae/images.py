"""From what the user has to messages that fit: arrays, files, bytes and PIL images become chunks of one call."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import cast

import numpy as np

from partedvae.errors import InvalidRequestError
from partedvae.items import MAX_BYTES, ImageInput, ImageItem, check_pixels, content_of, is_pil, not_an_image
from partedvae.results import ImageArray, ImageProblem
from partedvae.v1.tensors_pb2 import EncodedImages, Images, PackedImages

MAX_IMAGES = 1024
"""Images in one message."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Images of a call that travel in one message."""

    images: Images
    positions: Sequence[int]
    """Position of each image in the call."""
    problems: tuple[ImageProblem, ...] = ()
    """Images of the call before these that could not be read, where such are left out."""
    names: tuple[str, ...] = ()
    """File name of each image; empty for arrays, an empty string where an item of a list is no file."""

    def name_of(self, index: int) -> str:
        """Return the name of the file of an image of this message; empty where it has none."""
        return self.names[index] if index < len(self.names) else ""

    def locate(self, message: str) -> str:
        """Say "image N" of a server's message as the caller counts, with the file's name where there is one."""

        def located(match: re.Match[str]) -> str:
            index = int(match[1])
            if index >= len(self.positions):
                return match[0]
            name = self.name_of(index)
            return f"image {self.positions[index]}" + (f" ({name})" if name else "")

        return re.sub(r"\bimage (\d+)\b", located, message)


def count_of(images: ImageInput) -> int | None:
    """Return how many images there are, None where only their end will tell."""
    if isinstance(images, np.ndarray):
        return len(images) if images.ndim > 2 else 1
    if isinstance(images, (str, os.PathLike, bytes)) or is_pil(images):
        return 1
    return len(images) if isinstance(images, Sized) else None


def one_message(images: ImageInput, what: str) -> Images:
    """Return images as one message, where they cannot travel in several.

    Raises:
        InvalidRequestError: they do not fit, or cannot be used.
        OSError: a file cannot be read.
    """
    first, *others = itertools.islice(chunks(images), 2)
    if others:
        raise InvalidRequestError(
            f"{what} do not fit into one message: give at most {MAX_IMAGES} of one kind, {MAX_BYTES:,} bytes in all"
        )
    return first.images


def chunks(images: ImageInput, *, leave_out: bool = False) -> Iterator[Chunk]:
    """Split images into messages that fit, in order; files are read as their chunk's turn comes.

    Args:
        images: the call's.
        leave_out: whether an item of many that cannot be read or sent is left out, and becomes a problem of the next
            chunk, in place of an error. A last chunk may have problems alone.

    Raises:
        InvalidRequestError: there are no images, one is too large for a message, or an array is not uint8 images.
        OSError: a file cannot be read.
    """
    if isinstance(images, np.ndarray):
        yield from _array_chunks(images)
        return
    if isinstance(images, (str, os.PathLike, bytes)) or is_pil(images):
        items: Iterable[ImageItem] = [cast(ImageItem, images)]
    elif isinstance(images, Iterable):
        items = images
    else:
        raise InvalidRequestError(not_an_image(images))
    empty = True
    for chunk in _item_chunks(items, leave_out=leave_out):
        empty = False
        yield chunk
    if empty:
        raise InvalidRequestError("there are no images in the call; give at least one")


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
    check_pixels(array.dtype, array.shape[1:], "the array")
    if not len(array):
        raise InvalidRequestError(f"there are no images in an array of shape {list(array.shape)}; give at least one")
    rows = min(MAX_IMAGES, MAX_BYTES // (array.nbytes // len(array)))
    for first in range(0, len(array), rows):
        part = array[first : first + rows]
        yield Chunk(images=_packed(part), positions=range(position + first, position + first + len(part)))


def _item_chunks(items: Iterable[ImageItem], *, leave_out: bool) -> Iterator[Chunk]:
    """Gather consecutive items of one kind (files, or pixels of one shape) as long as they fit in a message."""
    gathered = _Gathered()
    index = -1
    for item in items:
        index += 1
        if isinstance(item, np.ndarray) and item.ndim == 4:
            if gathered.contents or gathered.problems:
                yield gathered.chunk()
                gathered = _Gathered()
            yield from _array_chunks(item, index)
            index += len(item) - 1
            continue
        try:
            content, name = content_of(item, index)
        except (InvalidRequestError, OSError) as error:
            if not leave_out:
                raise
            name = os.fspath(item) if isinstance(item, (str, os.PathLike)) else ""
            reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            gathered.problems.append(ImageProblem(index=index, name=name, reason=reason))
            continue
        if not gathered.has_room_for(content):
            yield gathered.chunk()
            gathered = _Gathered()
        gathered.add(content, index, name)
    if gathered.contents or gathered.problems:
        yield gathered.chunk()


class _Gathered:
    """The items of the next message."""

    def __init__(self) -> None:
        self.contents: list[bytes | ImageArray] = []
        self.problems: list[ImageProblem] = []
        self._names: list[str] = []
        self._positions: list[int] = []
        self._size = 0

    def has_room_for(self, content: bytes | ImageArray) -> bool:
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
