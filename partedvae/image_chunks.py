"""Images to messages, in chunks: arrays, files, bytes and Pillow images become messages that the server accepts."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from partedvae.errors import InvalidRequestError
from partedvae.image_arrays import unmasked
from partedvae.image_items import (
    ImageInput,
    ImageItem,
    Item,
    check_array,
    check_many,
    is_one_image,
    not_an_image,
    read_item,
    shrinks,
    shrunk,
)
from partedvae.packing import Packing
from partedvae.results import ImageArray, ImageProblem
from partedvae.v1.tensors_pb2 import EncodedImages, Images

DEFAULT_PACKING = Packing()
"""That of a server whose limits are not known."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Images of a call that are sent in one message."""

    images: Images
    positions: Sequence[int]
    """Position of each image in the call."""
    pixels: int = 0
    """Height times width, summed over the images; damaged files have none."""
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
    if is_one_image(images):
        return 1
    return len(images) if isinstance(images, Sized) else None


def locator(sent: Mapping[str, Chunk | None]) -> Callable[[str], str]:
    """Return a function that replaces "image N" in a server's message as `Chunk.locate` does.

    Args:
        sent: the chunk of each field of the request; the message starts with the field's name. The chunk of an empty
            name is that of a request with one field of images.
    """

    def locate(message: str) -> str:
        field, separator, rest = message.partition(": ")
        chunk = sent.get(field) if separator else None
        if chunk is not None:
            return f"{field}: {chunk.locate(rest)}"
        only = sent.get("")
        return message if only is None else only.locate(message)

    return locate


def one_message(images: ImageInput, what: str, packing: Packing = DEFAULT_PACKING) -> Chunk:
    """Return images as one chunk. Those that differ in kind or size, or have too many bytes, get the model's size.

    Args:
        images: the call's.
        what: their name in the error.
        packing: the limits of a request and the size of the model's images.

    Raises:
        InvalidRequestError: they do not fit into one message, or cannot be used.
        OSError: a file cannot be read.
    """
    if isinstance(images, Iterable) and not isinstance(images, np.ndarray) and not is_one_image(images):
        check_many(images)
        images = list(cast("Iterable[ImageItem]", images))  # An iterator can be read once.
    first, *others = itertools.islice(chunks(images, packing), 2)
    if others:
        first, *others = itertools.islice(chunks(images, replace(packing, uniform=True)), 2)
    if others:
        raise InvalidRequestError(
            f"{what} do not fit into one message: pass at most {packing.max_chunk_images} of one kind (files, or "
            f"arrays of one shape), {packing.max_chunk_bytes:,} bytes and {packing.limits.max_request_pixels:,} pixels "
            "in all"
        )
    return first


def chunks(images: ImageInput, packing: Packing = DEFAULT_PACKING, *, skip_unreadable: bool = False) -> Iterator[Chunk]:
    """Split images into messages, in order; files are read when their chunk is built.

    Args:
        images: the call's.
        packing: the limits of a request and the size of the model's images.
        skip_unreadable: report an item of a list that cannot be read or sent as a problem of the next chunk instead of
            raising an error; of an array of several images, each is one. Only the last chunk may have problems alone.

    Raises:
        InvalidRequestError: there are no images, one is above a limit, or an array is not uint8 images.
        OSError: a file cannot be read.
    """
    if isinstance(images, np.ndarray):
        array = _checked_array(images, "the array", packing)
        if not len(array):
            raise InvalidRequestError(
                f"there are no images in an array of shape {list(array.shape)}; pass at least one"
            )
        yield from _array_chunks(array, packing)
        return
    if is_one_image(images):
        items: Iterable[ImageItem] = [images]
    elif isinstance(images, Iterable):
        items = cast("Iterable[ImageItem]", images)
        check_many(items)
    else:
        raise InvalidRequestError(not_an_image(images))
    empty = True
    for chunk in _item_chunks(items, packing, skip_unreadable=skip_unreadable):
        empty = False
        yield chunk
    if empty:
        raise InvalidRequestError("there are no images in the call; pass at least one")


def _checked_array(array: ImageArray, where: str, packing: Packing) -> ImageArray:
    """Return an array of images, [count, height, width] or with channels, that can be sent.

    Args:
        array: the caller's; a single image may be [height, width].
        where: its name in errors.
        packing: the limits of a request.

    Raises:
        InvalidRequestError: it is not uint8 images, or they are above a limit.
    """
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
    check_array(array.dtype, array.shape[1:], where, packing)
    return unmasked(array, where)


def _array_chunks(
    array: ImageArray, packing: Packing, position: int = 0, problems: tuple[ImageProblem, ...] = ()
) -> Iterator[Chunk]:
    """Yield a checked array that is not empty in messages, the first one with the problems of images before it."""
    size, pixels = array.nbytes // len(array), array.shape[1] * array.shape[2]
    shrink = shrinks(size, pixels, packing)
    rows = packing.shrunk_rows() if shrink else packing.rows(size, pixels)
    for first in range(0, len(array), rows):
        part = array[first : first + rows]
        if shrink:
            part = np.stack(shrunk(part, packing))
        yield Chunk(
            images=_packed(part),
            positions=range(position + first, position + first + len(part)),
            pixels=len(part) * part.shape[1] * part.shape[2],
            problems=problems if first == 0 else (),
        )


def _item_chunks(items: Iterable[ImageItem], packing: Packing, *, skip_unreadable: bool) -> Iterator[Chunk]:
    """Gather consecutive items of one kind (files, or pixels of one shape) as long as they fit into a message."""
    builder = _ChunkBuilder(packing)
    index = 0
    for item in items:
        is_batch = isinstance(item, np.ndarray) and item.ndim == 4
        first, index = index, index + (len(cast("ImageArray", item)) if is_batch else 1)
        try:
            read = (
                _checked_array(cast("ImageArray", item), f"image {first}", packing)
                if is_batch
                else read_item(item, first, packing)
            )
        except (InvalidRequestError, OSError) as error:
            if not skip_unreadable:
                raise
            name = os.fspath(item) if isinstance(item, (str, os.PathLike)) else ""
            reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            builder.problems += [ImageProblem(index=k, name=name, reason=reason) for k in range(first, index)]
            continue
        if isinstance(read, np.ndarray):
            if builder.items:
                yield builder.chunk()
                builder = _ChunkBuilder(packing)
            if len(read):
                yield from _array_chunks(read, packing, first, tuple(builder.problems))
                builder.problems.clear()
            continue
        if not builder.fits(read):
            yield builder.chunk()
            builder = _ChunkBuilder(packing)
        builder.add(read, first)
    if builder.items or builder.problems:
        yield builder.chunk()


class _ChunkBuilder:
    """The items of the next message."""

    def __init__(self, packing: Packing) -> None:
        self.items: list[Item] = []
        self.problems: list[ImageProblem] = []
        self._packing = packing
        self._positions: list[int] = []
        self._size = 0
        self._pixels = 0

    def fits(self, item: Item) -> bool:
        if not self.items:
            return True
        size, pixels = self._size + item.size, self._pixels + item.pixels
        return item.kind == self.items[-1].kind and self._packing.holds(len(self.items) + 1, size, pixels)

    def add(self, item: Item, position: int) -> None:
        self.items.append(item)
        self._positions.append(position)
        self._size += item.size
        self._pixels += item.pixels

    def chunk(self) -> Chunk:
        return Chunk(
            images=_message([item.content for item in self.items]) if self.items else Images(),
            positions=tuple(self._positions),
            pixels=self._pixels,
            names=tuple(item.name for item in self.items),
            problems=tuple(self.problems),
        )


def _message(contents: Sequence[bytes | ImageArray]) -> Images:
    files = [content for content in contents if isinstance(content, bytes)]
    if files:
        return Images(encoded=EncodedImages(items=files))
    return _packed(np.stack([content for content in contents if not isinstance(content, bytes)]))


def _packed(array: ImageArray) -> Images:
    images = Images()  # Set in place, which copies the pixels once less than a message that is passed to another.
    images.packed.data = array.tobytes()
    images.packed.shape.extend(array.shape)
    return images
