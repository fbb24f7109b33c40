"""Reads image files, on this machine and at URLs."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import pyarrow as pa

from partedvae.common.file_names import spellings
from partedvae.common.regular_files import read_file
from partedvae.common.retry import Retries
from partedvae.common.urls import is_url
from partedvae.serving.extract.sources.listed import ReadFailure, names_of
from partedvae.serving.extract.sources.outage import FailureCounter, is_outage
from partedvae.serving.extract.sources.remote import RemoteFiles, Request


@dataclass(frozen=True)
class FileReader:
    """Reads files that are named relative to a folder, by absolute paths, or by URLs."""

    folder: str
    """Path or URL of the folder of relative names."""
    remote: RemoteFiles
    needs: Sequence[str] = ()
    """`("size",)` if the list has the sizes."""
    listed: bool = False
    """Whether the files were found in the folder, so that they cannot be missing."""
    _retry: Retries = field(default_factory=Retries, init=False, compare=False)
    _failures: FailureCounter = field(default_factory=FailureCounter, init=False, compare=False)

    def contents(self, rows: pa.Table) -> Iterator[bytes | ReadFailure]:
        """Yield the content of each file, or why it cannot be read."""
        names = names_of(rows)
        sizes = rows["size"].to_pylist() if self.needs else [None] * len(names)
        # Those at URLs are read ahead, while files here are read and decoded one after another.
        remote = self.remote.read(
            Request(url, size) for url, size in zip(map(self._url_of, names), sizes, strict=True) if url
        )
        try:
            for name in names:
                yield next(remote) if self._url_of(name) else self._read(name)
        finally:
            remote.close()

    def part(self, rows: pa.Table) -> FileReader:
        """Return this reader."""
        return self

    def _url_of(self, name: str) -> str | None:
        if is_url(name):
            return name
        return f"{self.folder.rstrip('/')}/{name}" if is_url(self.folder) else None

    def _read(self, name: str) -> bytes | ReadFailure:
        """Return the content of a file, which a list may write in another way than its folder does."""
        if not name.strip():
            return ReadFailure("the path is empty")
        try:
            # As it is written, which is what most names are, before anything is made of it.
            for spelled in itertools.chain([name], spellings(name)):
                try:
                    path = os.path.join(self.folder, spelled)  # noqa: PTH118, because a Path takes far longer
                    content = self._retry(partial(read_file, path))
                except FileNotFoundError:
                    continue
                self._failures.succeeded()
                return content
        except OSError as error:
            reason = error.strerror or str(error)
            if is_outage(error, os.path.dirname(path)):  # noqa: PTH120, as above
                self._failures.failed(path, reason)
            return ReadFailure(reason)
        except ValueError as error:  # a name with a null character
            return ReadFailure(f"not the name of a file: {error}")
        missing = os.strerror(errno.ENOENT)
        if self.listed:
            cause = f"{self.folder} was removed or unmounted while it was read"
            self._failures.failed(os.path.join(self.folder, name), missing, cause)  # noqa: PTH118, as above
        return ReadFailure(missing)
