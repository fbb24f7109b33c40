"""IDX files, the format of MNIST."""

from __future__ import annotations

import gzip
import io
import math
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from partedvae.common.image_folder import LeftOut
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.extract.sources.arrays import hash_of_file, prepare_array
from partedvae.serving.extract.sources.numpy_files import check_images
from partedvae.serving.extract.sources.source import NO_COLUMNS, Job, Key, Prepared
from partedvae.v1.manifest_pb2 import ImageSpec

BinaryFile = io.BufferedReader | gzip.GzipFile


class IdxSource:
    """An IDX file (the format of MNIST), plain or .gz, read as a stream.

    The header: two zero bytes, 8 for uint8, the rank, then each dimension as a big-endian uint32.
    """

    key: Key = "index"
    columns = NO_COLUMNS

    def __init__(self, path: Path) -> None:
        """Read the header.

        Raises:
            InvalidInputError: it is not an IDX file of images, or is shorter than its header says.
        """
        self.left_out = LeftOut()
        self._path = path
        with _open(path) as file:
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
        if math.prod(self._shape) > sys.maxsize or (
            not _is_packed(path) and path.stat().st_size < _header_bytes(self._shape) + math.prod(self._shape)
        ):
            raise InvalidInputError(_truncated(path))

    @property
    def manifest_hash(self) -> str:
        """SHA-256 of what the file is: its length, and the time of its last change."""
        return hash_of_file(self._path)

    def __len__(self) -> int:
        return self._shape[0]

    def part(self, first: int, last: int) -> IdxPart:
        """Return the rows from `first` to before `last`."""
        return IdxPart(self._path, self._shape, first, last)


@dataclass(frozen=True)
class IdxPart:
    """Some images of an IDX file."""

    path: Path
    shape: tuple[int, ...]
    """Of the whole file."""
    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first

    def jobs(self, batch_size: int) -> Iterator[Job]:
        """Yield jobs that convert pixels, which are read from the stream here."""
        each = math.prod(self.shape[1:])
        with _open(self.path) as file:
            file.seek(_header_bytes(self.shape) + self.first * each)
            for start in range(self.first, self.last, batch_size):
                shape = (min(batch_size, self.last - start), *self.shape[1:])
                yield partial(_prepare_pixels, _read(file, shape[0] * each, self.path), shape, start)
            if self.last == self.shape[0]:
                _read_up_to(file, 1, self.path)  # gzip compares the checksum when it meets the end of the data.


def _prepare_pixels(data: bytes, shape: Sequence[int], first: int, spec: ImageSpec) -> Prepared:
    return prepare_array(np.frombuffer(data, dtype=np.uint8).reshape(shape), first, spec)


def _header_bytes(shape: Sequence[int]) -> int:
    return 4 + 4 * len(shape)


def _open(path: Path) -> BinaryFile:
    return gzip.open(path) if _is_packed(path) else path.open("rb")


def _is_packed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


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
