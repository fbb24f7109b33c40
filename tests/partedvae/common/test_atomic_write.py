"""Files are written completely or not at all."""

from __future__ import annotations

import errno
import os
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from partedvae.common.atomic_write import appending, atomic_write, write_json


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Let writes beyond a size in bytes fail, as on a full disk (EFBIG instead of ENOSPC)."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_file_is_written_to_a_temporary_name_first(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with atomic_write(path) as temporary:
        assert temporary.parent == tmp_path
        assert re.fullmatch(rf"\.file\.[0-9a-f]{{8}}\.{os.getpid()}\.partial", temporary.name)
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "new"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_json(path, 1)

    def write_half() -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("{")
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        write_half()
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "1\n"


@pytest.mark.parametrize(("old", "kept"), [(True, "the earlier file is unchanged"), (False, "nothing was written")])
def test_a_full_disk_is_an_error_with_the_file_and_the_remedy(tmp_path: Path, old: bool, kept: str) -> None:
    path = tmp_path / "values.json"
    if old:
        write_json(path, 1)
    with pytest.raises(OSError, match=f"{kept}; free space there, or write elsewhere") as caught, full_disk(1000):
        write_json(path, list(range(10_000)))
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert [entry.name for entry in tmp_path.iterdir()] == (["values.json"] if old else [])


def test_a_folder_that_does_not_exist_is_reported_with_the_name_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file or directory") as caught:
        write_json(tmp_path / "none" / "values.json", 1)
    assert caught.value.filename == str(tmp_path / "none" / "values.json")


def test_what_was_appended_to_a_full_disk_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    with appending(path) as file:
        file.write(b"first\n")

    def append_much() -> None:
        with appending(path) as file:
            file.write(b"second" * 1000)

    with pytest.raises(OSError, match="lines") as caught, full_disk(1000):
        append_much()
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"first\n"


@pytest.mark.parametrize("exists", [True, False])
def test_the_target_of_a_link_is_written(tmp_path: Path, exists: bool) -> None:
    """As by a shell's redirection: the link may lead to a larger disk."""
    disk, link = tmp_path / "disk", tmp_path / "link.json"
    disk.mkdir()
    if exists:
        (disk / "values.json").write_text("0\n")
    link.symlink_to("disk/values.json")
    write_json(link, 1)
    assert link.is_symlink()
    assert [(entry.name, entry.read_text()) for entry in disk.iterdir()] == [("values.json", "1\n")]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["disk", "link.json"]


@pytest.mark.parametrize(("name", "reason"), [("none/values", "No such file"), ("a" * 250, "File name too long")])
def test_a_file_that_cannot_be_created_is_named_whoever_writes_it(tmp_path: Path, name: str, reason: str) -> None:
    """Libraries raise errors of their own, with the temporary name."""

    def write() -> None:
        with atomic_write(tmp_path / name) as temporary:
            raise OSError(f"failed to open local file {temporary}")

    with pytest.raises(OSError, match=reason) as caught:
        write()
    assert caught.value.filename == str(tmp_path / name)
