"""NumPy arrays of images, memory-mapped where the file allows it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from partedvae.common.image_folder import LeftOut
from partedvae.results import ImageArray
from partedvae.serving.extract.sources.numpy_files import load_array
from partedvae.serving.extract.sources.source import NO_COLUMNS, Job, Key, Prepared
from partedvae.serving.images import from_array
from partedvae.v1.manifest_pb2 import ImageSpec


class ArraySource:
    """An .npy or .npz file."""

    key: Key = "index"
    columns = NO_COLUMNS

    def __init__(self, path: Path) -> None:
        """Open the file; errors are those of `load_array`."""
        self.left_out = LeftOut()
        self._path = path
        self._array = load_array(path)

    @property
    def manifest_hash(self) -> str:
        """SHA-256 of what the file is: its length, and the time of its last change."""
        return hash_of_file(self._path)

    def __len__(self) -> int:
        return len(self._array)

    def part(self, first: int, last: int) -> ArrayPart:
        """Return the rows from `first` to before `last`."""
        return ArrayPart(self._path, first, last, self._array)


class ArrayPart:
    """Some images of an array. Pickled without them: the process that unpickles it opens the file."""

    def __init__(self, path: Path, first: int, last: int, array: ImageArray | None = None) -> None:
        """Create a part.

        Args:
            path: the file.
            first: first row.
            last: row after the last one.
            array: all images of the file, if it is open.
        """
        self._path = path
        self._first = first
        self._last = last
        self._array = array

    def __reduce__(self) -> tuple[type[ArrayPart], tuple[Path, int, int]]:
        return ArrayPart, (self._path, self._first, self._last)

    def __len__(self) -> int:
        return self._last - self._first

    def jobs(self, batch_size: int) -> Iterator[Job]:
        """Yield jobs that convert slices."""
        array = load_array(self._path) if self._array is None else self._array
        for start in range(self._first, self._last, batch_size):
            # A memory-mapped file is read when the job runs.
            yield partial(prepare_array, array[start : min(start + batch_size, self._last)], start)


def hash_of_file(path: Path) -> str:
    """Return the SHA-256 of the length of a file and the time of its last change."""
    facts = path.stat()
    return hashlib.sha256(f"{facts.st_size} {facts.st_mtime_ns}".encode()).hexdigest()


def prepare_array(array: ImageArray, first: int, spec: ImageSpec) -> Prepared:
    """Convert images of an array, whose keys are their positions from `first`."""
    count = len(array)
    return Prepared(keys=range(first, first + count), errors=[None] * count, images=from_array(array, spec))
