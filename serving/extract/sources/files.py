"""Image files: those of a folder, or of a list."""

from __future__ import annotations

import errno
import functools
import hashlib
import itertools
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from partedvae.common.file_names import printable, spellings
from partedvae.common.image_folder import LeftOut
from partedvae.common.regular_files import read_file
from partedvae.common.retry import Retries
from partedvae.serving.errors import ImageError
from partedvae.serving.extract.memory import DECODING
from partedvae.serving.extract.sources.source import NO_COLUMNS, Job, Key, Prepared
from partedvae.serving.images import decode_one, memory_limits
from partedvae.v1.manifest_pb2 import ImageSpec


class FileSource:
    """Image files, one row per file; a file that cannot be decoded is a row with an error."""

    key: Key = "path"
    columns = NO_COLUMNS

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

    @functools.cached_property
    def manifest_hash(self) -> str:
        """SHA-256 of the names."""
        digest = hashlib.sha256()
        for name in self._names:
            digest.update(os.fsencode(name) + b"\0")
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self._names)

    def part(self, first: int, last: int) -> FilePart:
        """Return the rows from `first` to before `last`."""
        return FilePart(self._folder, self._names[first:last])


class FilePart:
    """Some image files."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        """Create a part; the arguments are those of `FileSource`."""
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
                images[readable] = decode_one(content, spec, limits, DECODING.reserve)
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
        # As it is written, which is what most names are, before anything is made of it.
        for spelled in itertools.chain([name], spellings(name)):
            try:
                return read_file(os.path.join(self._folder, spelled))  # noqa: PTH118, because a Path takes far longer
            except FileNotFoundError:
                continue
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
