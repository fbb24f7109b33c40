"""Arrays of images: .npy and .npz, IDX files, and the packed images of dSprites. Rows are read when a job runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

import numpy as np

from partedvae.common.image_folder import LeftOut
from partedvae.results import ImageArray
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.extract.sources.local_files import LocalFile, check_unchanged, facts_of
from partedvae.serving.extract.sources.source import NO_COLUMNS, Job, Key, Prepared
from partedvae.serving.images import from_array
from partedvae.v1.manifest_pb2 import ImageSpec


@dataclass(frozen=True, kw_only=True)
class ImageRows:
    """An array in a file, uint8 [images, height, width] or [images, height, width, channels]."""

    file: LocalFile
    shape: tuple[int, ...]
    offset: int
    """Position of the first pixel."""
    fortran_order: bool = False
    bits: bool = False
    """Whether each image is stored as bits, of which 1 is white."""

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, first: int, last: int) -> ImageArray:
        """Return the images from `first` to before `last`.

        Raises:
            InvalidInputError: the file has become shorter, or the memory is not sufficient.
        """
        if self.fortran_order:  # All of the file is needed for one image; the system reads what is used.
            return self.file.map(self.offset, self.shape)[first:last]
        pixels = int(np.prod(self.shape[1:], dtype=np.int64))
        each = (pixels + 7) // 8 if self.bits else pixels
        try:
            stored = np.empty((last - first) * each, dtype=np.uint8)
        except MemoryError as error:
            raise InvalidInputError(
                f"{self.file.given}: a batch of it has {(last - first) * each:,} bytes, more than the memory"
            ) from error
        if self.file.read_into(stored, self.offset + first * each) < len(stored):
            raise InvalidInputError(truncated(self.file.given))
        if self.bits:
            stored = np.unpackbits(stored.reshape(-1, each), axis=1, count=pixels) * np.uint8(255)
        return stored.reshape(last - first, *self.shape[1:])


Opener = Callable[[str, float], ImageRows]
"""Opens an array, given its path or URL and the timeout of reads."""


class ArraySource:
    """An array of images in a file."""

    key: Key = "index"
    columns = NO_COLUMNS

    def __init__(self, given: str, opener: Opener, timeout: float, name: str | None = None) -> None:
        """Open the file; errors are those of the opener.

        Args:
            given: path or URL.
            opener: a function that can be pickled.
            timeout: seconds per read of a file at a URL.
            name: what tells it from other files of the same length and date; by default the file's name.
        """
        self.left_out = LeftOut()
        self._name = PurePosixPath(given).name if name is None else name
        self._facts = facts_of(given, timeout)
        self._given = given
        self._opener = opener
        self._timeout = timeout
        self._rows = opener(given, timeout)

    @property
    def manifest_hash(self) -> str:
        """SHA-256 of what the file is: its name and length, and the date or version of its content."""
        return hashlib.sha256(f"{self._name} {self._facts}".encode("utf-8", "surrogateescape")).hexdigest()

    def __len__(self) -> int:
        return len(self._rows)

    def part(self, first: int, last: int) -> ArrayPart:
        """Return the rows from `first` to before `last`."""
        return ArrayPart(self._given, self._facts, self._opener, self._timeout, first, last, self._rows)


class ArrayPart:
    """Some images of an array. Pickled without them: the process that unpickles it opens the file."""

    def __init__(
        self,
        given: str,
        facts: str,
        opener: Opener,
        timeout: float,
        first: int,
        last: int,
        rows: ImageRows | None = None,
    ) -> None:
        """Create a part.

        Args:
            given: path or URL.
            facts: what `facts_of` returned when it was listed.
            opener: opens it.
            timeout: seconds per read of a file at a URL.
            first: first row.
            last: row after the last one.
            rows: the array, if it is open.
        """
        self._arguments = given, facts, opener, timeout, first, last
        self._rows = rows

    def __reduce__(self) -> tuple[type[ArrayPart], tuple[str, str, Opener, float, int, int]]:
        return ArrayPart, self._arguments

    def __len__(self) -> int:
        return self._arguments[5] - self._arguments[4]

    def jobs(self, batch_size: int) -> Iterator[Job]:
        """Yield jobs that read and convert rows.

        Raises:
            InvalidInputError: the file is not the one that was listed.
        """
        given, facts, opener, timeout, first, last = self._arguments
        if self._rows is None:
            check_unchanged(given, facts, timeout)
        rows = self._rows or opener(given, timeout)
        for start in range(first, last, batch_size):
            yield partial(_prepare, rows, start, min(start + batch_size, last))


def truncated(given: str) -> str:
    """Return the message of a file that has fewer pixels than its header says."""
    return f"{given} is shorter than its header says: the file is truncated, download it again"


def _prepare(rows: ImageRows, first: int, last: int, spec: ImageSpec) -> Prepared:
    images = from_array(rows.read(first, last), spec)
    return Prepared(keys=range(first, last), errors=[None] * (last - first), images=images)
