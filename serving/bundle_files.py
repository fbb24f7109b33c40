"""Reads the files and folders of bundles, which may be anything: only regular files up to a size, and only versions."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from partedvae.serving.errors import BundleError

MAX_VERSION = 2**63 - 1
"""Largest version: an int64, as in TensorFlow Serving, whose users name versions by the time, 20251125073300."""
CHUNK_BYTES = 1 << 20
"""Bytes that are read at once where a file is not kept."""
NOT_A_FOLDER = {
    errno.ENOENT: "it is a link to nothing",
    errno.ELOOP: "it is a link to itself",
    errno.ENOTDIR: "it is not a folder",
}
"""Why something is not a folder, by the error of using it as one."""


def version_number(name: str) -> int | None:
    """Return the version that a folder's name or a request's text stands for; None if it is no version.

    A version is written in one way: decimal ASCII digits without leading zeros, from 1 to `MAX_VERSION`.
    """
    # At most as many digits as the largest version: int() of many digits is slow, or fails.
    if not (name.isascii() and name.isdecimal() and len(name) <= len(str(MAX_VERSION))) or name.startswith("0"):
        return None
    number = int(name)
    return number if number <= MAX_VERSION else None


@dataclass(frozen=True)
class ModelFolder:
    """What the folder of a model has."""

    versions: tuple[int, ...]
    """Numbers of its version folders, oldest first."""
    skipped: Mapping[str, str]
    """Why others are no version, by name: folders that are not hidden, and what has the name of a version."""


def list_versions(model_folder: Path) -> ModelFolder:
    """List the folder of a model.

    Raises:
        OSError: it is not a folder, or cannot be listed.
    """
    versions, skipped = [], {}
    with os.scandir(model_folder) as entries:
        for entry in entries:
            number = version_number(entry.name)
            problem = "" if number is None else _why_not_a_folder(model_folder / entry.name)
            if number is not None and not problem:
                versions.append(number)
            elif problem:
                skipped[entry.name] = problem
            elif not entry.name.startswith(".") and _is_folder(entry):
                skipped[entry.name] = f"its name is not an integer from 1 to {MAX_VERSION} without leading zeros"
    return ModelFolder(tuple(sorted(versions)), dict(sorted(skipped.items())))


def versions_of(model_folder: Path) -> list[int]:
    """Return the version numbers in a model's folder, oldest first; none if it is no folder.

    Raises:
        OSError: the folder cannot be listed.
    """
    try:
        return list(list_versions(model_folder).versions)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _why_not_a_folder(path: Path) -> str:
    """Return why something is not a folder; empty if it is one, or if the operating system does not let us know."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return NOT_A_FOLDER.get(error.errno or 0, "")  # Whoever reads it gets other errors, and may try again.
    return "" if stat.S_ISDIR(mode) else NOT_A_FOLDER[errno.ENOTDIR]


def read_file(path: Path, max_bytes: int) -> bytes:
    """Return the content of a regular file of at most `max_bytes`.

    Raises:
        BundleError: it is another kind of file or larger, or its size changed while it was read.
        OSError: it does not exist, or cannot be read.
    """
    with _opened(path, max_bytes) as (file, size):
        content = file.read(size + 1)
        if len(content) != size:
            raise _changed(path)
        return content


def sha256_of(path: Path, max_bytes: int | None = None) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits, without keeping its content in memory; see `read_file`."""
    digest = hashlib.sha256()
    with _opened(path, max_bytes) as (file, size):
        left = size
        # Bounded by the size that it had: another process may append to the file forever.
        while chunk := file.read(min(CHUNK_BYTES, left + 1)):
            left -= len(chunk)
            if left < 0:
                break
            digest.update(chunk)
        if left:
            raise _changed(path)
    return digest.hexdigest()


@contextmanager
def _opened(path: Path, max_bytes: int | None) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file; yields it and its size in bytes."""
    _check_kind(path, path.stat())  # Opening a device can have effects.
    # Without O_NONBLOCK, opening a pipe that took the file's place since then would wait for a writer.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
        info = os.fstat(file.fileno())
        _check_kind(path, info)
        if max_bytes is not None and info.st_size > max_bytes:
            raise BundleError(f"{path} has {info.st_size:,} bytes, the limit is {max_bytes:,}; export the run again")
        yield file, info.st_size


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _check_kind(path: Path, info: os.stat_result) -> None:
    if not stat.S_ISREG(info.st_mode):
        raise BundleError(f"{path} is not a regular file; export the run again")


def _changed(path: Path) -> BundleError:
    return BundleError(f"{path} changed while it was read; write versions to another name, and rename them")
