"""Tests of `partedvae.serving.bundle_files`: names of versions, and what is in the place of a file or a folder."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from partedvae.serving.bundle_files import (
    MAX_VERSION,
    list_versions,
    read_file,
    sha256_of,
    version_number,
    versions_of,
)
from partedvae.serving.errors import BundleError


@pytest.mark.parametrize("number", [1, 7, 10, 2**32, 20251125073300, 2**53 + 1, MAX_VERSION])
def test_versions(number: int) -> None:
    assert version_number(str(number)) == number


@pytest.mark.parametrize(
    "name",
    # The last three are digits to str.isdecimal or str.isdigit, and a name of more digits than int() converts.
    ["", "0", "-1", "+1", "007", "1.0", "1_000", " 1", "1\n", "v2", "0x10", str(2**63), "٣", "²", "１", "9" * 5000],
)
def test_other_names_are_no_versions(name: str) -> None:
    assert version_number(name) is None


def test_versions_of_a_folder(tmp_path: Path) -> None:
    """Folders with a version's name are listed by number; everything else that looks like one has a reason."""
    for name in ("10", "9", "20251125073300", "007", ".staging-1"):
        (tmp_path / name).mkdir()
    (tmp_path / "notes.txt").write_text("no version, and not meant to be one")
    (tmp_path / "11").write_text("a file")
    (tmp_path / "12").symlink_to("nowhere")
    (tmp_path / "13").symlink_to("13")
    (tmp_path / "14").symlink_to("9")
    os.mkfifo(tmp_path / "15")
    found = list_versions(tmp_path)
    assert found.versions == (9, 10, 14, 20251125073300)
    assert found.skipped == {
        "007": "its name is not an integer from 1 to 9223372036854775807 without leading zeros",
        "11": "it is not a folder",
        "12": "it is a link to nothing",
        "13": "it is a link to itself",
        "15": "it is not a folder",
    }
    assert versions_of(tmp_path / "11") == versions_of(tmp_path / "99") == []


def test_content_and_checksum(tmp_path: Path) -> None:
    """A file of exactly the limit is read, also through a link; one byte more is refused."""
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        assert read_file(tmp_path / name, 7) == b"content"
        assert sha256_of(tmp_path / name, 7) == hashlib.sha256(b"content").hexdigest()
        for read in (read_file, sha256_of):
            with pytest.raises(BundleError, match=f"{name} has 7 bytes, the limit is 6"):
                read(tmp_path / name, 6)


def make_folder(path: Path) -> None:
    path.mkdir()


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def link_to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [make_folder, os.mkfifo, make_socket, link_to_device])
@pytest.mark.parametrize("read", [read_file, sha256_of])
def test_other_files_are_refused(
    tmp_path: Path, make: Callable[[Path], None], read: Callable[[Path, int], object]
) -> None:
    """A pipe without a writer is not waited for, and a device without an end is not read."""
    make(tmp_path / "x")
    with pytest.raises(BundleError, match="x is not a regular file"):
        read(tmp_path / "x", 1 << 30)


@pytest.mark.parametrize("read", [read_file, sha256_of])
def test_a_huge_sparse_file_is_not_read(tmp_path: Path, read: Callable[[Path, int], object]) -> None:
    with (tmp_path / "x").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(BundleError, match="has 1,099,511,627,776 bytes, the limit is 1,073,741,824"):
        read(tmp_path / "x", 1 << 30)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs a file that is longer than its size says")
@pytest.mark.parametrize("read", [read_file, sha256_of])
def test_a_file_that_grows_while_it_is_read(read: Callable[[Path, int], object]) -> None:
    """It is read up to the size that it had, not for as long as something is appended."""
    with pytest.raises(BundleError, match="status changed while it was read"):
        read(Path("/proc/self/status"), 1 << 20)
