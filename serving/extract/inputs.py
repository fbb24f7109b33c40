"""Inputs of batch extraction: folders of images, list files, IDX files and NumPy arrays, of any size.

A source yields jobs instead of images: the caller runs them in threads, so that files are decoded ahead, and limits how
many run at a time.
"""

from __future__ import annotations

import errno
import gzip
import io
import math
import os
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from partedvae.common.file_names import printable, spellings
from partedvae.common.image_folder import LeftOut, find_images, image_endings
from partedvae.common.regular_files import read_file
from partedvae.common.retry import Retries
from partedvae.common.text_files import TextError, read_names
from partedvae.results import ImageArray
from partedvae.serving.errors import ImageError, InvalidInputError
from partedvae.serving.extract.numpy_files import check_images, load_array
from partedvae.serving.images import decode, from_array, memory_limits
from partedvae.v1.manifest_pb2 import ImageSpec


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """Consecutive images, ready for the encoder."""

    keys: Sequence[str] | Sequence[int]
    """Path (printable) or index of every image, including unreadable ones."""
    errors: Sequence[str | None]
    """Why an image is unreadable; None for readable ones."""
    images: ImageArray
    """The readable images, uint8 [readable images, height, width, channels] at the model's size."""


BinaryFile = io.BufferedReader | gzip.GzipFile
Job = Callable[[ImageSpec], Prepared]


class Source(Protocol):
    """Images in a fixed order."""

    key: Literal["path", "index"]
    """What identifies an image."""
    left_out: LeftOut
    """Files of a folder that are not images of the source."""

    def __len__(self) -> int:
        """Return the number of images."""

    def jobs(self, batch_size: int) -> Iterator[Job]:
        """Yield jobs that prepare `batch_size` images each; they may run in any thread and order."""


def open_source(path: Path) -> Source:
    """Open the INPUT of the command.

    Raises:
        InvalidInputError: it has no images, or an unsupported format.
        OSError: it cannot be read.
    """
    if path.is_dir():
        found = find_images(path)
        source: Source = FileSource(path, found.names, found.left_out)
    elif path.suffix.lower() == ".txt":
        source = FileSource(path.parent, _read_list(path))
    elif path.suffix.lower() in (".npy", ".npz"):
        source = ArraySource(load_array(path))
    elif path.suffix.lower() in image_endings():
        source = FileSource(path.parent, [path.name])
    else:
        source = IdxSource(path)
    if not len(source):
        raise InvalidInputError(_no_images(path, source.left_out))
    return source


def _no_images(path: Path, left_out: LeftOut) -> str:
    if not path.is_dir():
        return f"{path} contains no images"
    found = f"; left out: {'; '.join(left_out.lines())}" if left_out.counts else ""
    return f"{path} contains no images ({', '.join(image_endings())}){found}"


def _read_list(path: Path) -> list[str]:
    """Return the names in a list file; they may have bytes that are not UTF-8, as in `os`.

    Raises:
        InvalidInputError: it is not text.
    """
    try:
        return [name for _, name in read_names(path)]
    except TextError as error:
        raise InvalidInputError(f"{path} cannot be read as a list of paths, one per line: {error}") from error


class FileSource:
    """Image files, one row per file; a file that cannot be decoded is a row with an error."""

    key: Literal["path", "index"] = "path"

    def __init__(self, folder: Path, names: Sequence[str], left_out: LeftOut | None = None) -> None:
        """Create a source.

        Args:
            folder: the folder of relative names.
            names: paths of the files, relative or absolute.
            left_out: other files of the folder.
        """
        self.left_out = left_out or LeftOut()
        self._folder = folder
        self._names = names
        self._retry = Retries()

    def __len__(self) -> int:
        return len(self._names)

    def jobs(self, batch_size: int) -> Iterator[Job]:
        """Yield jobs that read and decode."""
        for first in range(0, len(self), batch_size):
            names = self._names[first : first + batch_size]
            yield partial(self._prepare, names)

    def _prepare(self, names: Sequence[str], spec: ImageSpec) -> Prepared:
        images = np.empty((len(names), spec.height, spec.width, spec.channels), dtype=np.uint8)
        errors: list[str | None] = []
        readable = 0
        limits = memory_limits()
        for name in names:
            try:
                content = self._retry(partial(self._read, name))
                images[readable] = decode([content], spec, limits)[0]
            except ImageError as error:
                errors.append(error.reason)
            except OSError as error:
                errors.append(error.strerror or str(error))
            except ValueError as error:  # a name with a null character
                errors.append(f"not the name of a file: {error}")
            else:
                errors.append(None)
                readable += 1
        return Prepared(keys=[printable(name) for name in names], errors=errors, images=images[:readable])

    def _read(self, name: str) -> bytes:
        """Return the content of a file, which a list may write in another way than its folder does."""
        for spelled in spellings(name):
            try:
                return read_file(self._folder / spelled)
            except FileNotFoundError:
                continue
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)


class ArraySource:
    """An array, in memory or memory-mapped."""

    key: Literal["path", "index"] = "index"

    def __init__(self, array: ImageArray) -> None:
        """Wrap uint8 [images, height, width] or [images, height, width, channels]."""
        self.left_out = LeftOut()
        self._array = array

    def __len__(self) -> int:
        return len(self._array)

    def jobs(self, batch_size: int) -> Iterator[Job]:
        """Yield jobs that convert slices."""
        for first in range(0, len(self), batch_size):
            part = self._array[first : first + batch_size]  # A memory-mapped file is read when the job runs.
            yield partial(_from_array, part, first)


class IdxSource:
    """An IDX file (the format of MNIST), plain or .gz, read as a stream.

    The header: two zero bytes, 8 for uint8, the rank, then each dimension as a big-endian uint32.
    """

    key: Literal["path", "index"] = "index"

    def __init__(self, path: Path) -> None:
        """Read the header.

        Raises:
            InvalidInputError: it is not an IDX file of images, or is shorter than its header says.
        """
        self.left_out = LeftOut()
        self._path = path
        with self._open() as file:
            start = _read_up_to(file, 2, path)
            if start.strip(b"\0"):
                raise InvalidInputError(
                    f"{path} has an unsupported format: pass a folder of images, an IDX file, .npy, .npz, or a .txt "
                    "with one path per line"
                )
            magic = start + _read(file, 4 - len(start), path)
            if magic[2] != 8 or magic[3] not in (3, 4):
                raise InvalidInputError(
                    f"{path} is an IDX file of type {magic[2]:#04x} and rank {magic[3]}; images have type 0x08 (uint8) "
                    "and rank 3 or 4. Is it the file of labels?"
                )
            dims = np.frombuffer(_read(file, 4 * magic[3], path), dtype=">u4")
        self._shape = tuple(int(dim) for dim in dims)
        check_images(np.dtype(np.uint8), self._shape, path)
        self._header = 4 + 4 * len(self._shape)
        if math.prod(self._shape) > sys.maxsize or (
            not self._is_packed and path.stat().st_size < self._header + math.prod(self._shape)
        ):
            raise InvalidInputError(_truncated(path))

    def __len__(self) -> int:
        return self._shape[0]

    def jobs(self, batch_size: int) -> Iterator[Job]:
        """Yield jobs that convert pixels, which are read from the stream here."""
        each = math.prod(self._shape[1:])
        with self._open() as file:
            _read(file, self._header, self._path)
            for first in range(0, len(self), batch_size):
                shape = (min(batch_size, len(self) - first), *self._shape[1:])
                data = _read(file, shape[0] * each, self._path)
                yield partial(_from_pixels, data, shape, first)
            _read_up_to(file, 1, self._path)  # gzip compares the checksum when it meets the end of the data.

    def _open(self) -> BinaryFile:
        return gzip.open(self._path) if self._is_packed else self._path.open("rb")

    @property
    def _is_packed(self) -> bool:
        return self._path.suffix.lower() == ".gz"


def _from_array(array: ImageArray, first: int, spec: ImageSpec) -> Prepared:
    count = len(array)
    return Prepared(keys=range(first, first + count), errors=[None] * count, images=from_array(array, spec))


def _from_pixels(data: bytes, shape: Sequence[int], first: int, spec: ImageSpec) -> Prepared:
    return _from_array(np.frombuffer(data, dtype=np.uint8).reshape(shape), first, spec)


def _read(file: BinaryFile, size: int, path: Path) -> bytes:
    data = _read_up_to(file, size, path)
    if len(data) < size:
        raise InvalidInputError(_truncated(path))
    return data


def _read_up_to(file: BinaryFile, size: int, path: Path) -> bytes:
    try:
        return file.read(size)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InvalidInputError(f"{path} cannot be unpacked: {error}; download it again") from error
    except MemoryError as error:
        raise InvalidInputError(f"{path}: a batch of it has {size:,} bytes, more than the memory") from error


def _truncated(path: Path) -> str:
    return f"{path} is shorter than its header says: the file is truncated, download it again"
