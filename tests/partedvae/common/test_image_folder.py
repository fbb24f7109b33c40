"""The image files of a folder, and what is left out."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from partedvae.common.file_names import printable
from partedvae.common.image_folder import EXAMPLES, REASONS, find_images
from partedvae.common.retry import DELAYS, Retries


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_endings_in_either_case_are_read_and_others_are_counted_by_ending(tmp_path: Path) -> None:
    touch(tmp_path, "a.PNG", "b/c.jfif", "d.bmp", "e.TIF", "f.gif", "g.avif", "h.avif", "readme", "labels.csv")
    found = find_images(tmp_path)
    assert found.names == ["a.PNG", "b/c.jfif", "d.bmp", "e.TIF", "f.gif"]
    assert found.left_out.lines() == [
        f"2 ending in .avif, which is not read ({tmp_path}/g.avif, {tmp_path}/h.avif)",
        f"1 without an ending ({tmp_path}/readme)",
    ]


def test_hidden_files_and_the_copies_of_systems_are_left_out(tmp_path: Path) -> None:
    names = ("._a.png", ".thumbnails/a.png", "__MACOSX/a.png", "b/@eaDir/a.png", "b/.ipynb_checkpoints/a.png")
    touch(tmp_path / ".hidden", "a.png", *names)
    found = find_images(tmp_path / ".hidden")
    assert found.names == ["a.png"]
    assert found.left_out.counts == {"hidden": 5}


def test_linked_folders_are_read_once_and_loops_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "nas/1.png", "top/own/2.png", "top/3.png", "above.png")
    top = tmp_path / "top"
    for name, target in (("a", "own"), ("imgs", "../nas"), ("same", "../nas"), ("loop", "."), ("up", "..")):
        (top / name).symlink_to(target)
    (top / "3b.png").symlink_to("3.png")
    (top / "gone.png").symlink_to("nothing.png")
    found = find_images(top)
    assert found.names == ["3.png", "3b.png", "imgs/1.png", "own/2.png"]
    assert found.left_out.counts == {
        "linked to a folder that is read already": 2,
        "linked to this folder or one above it": 2,
        "linked to nothing that can be read: No such file or directory": 1,
    }


def test_a_pipe_is_left_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert find_images(tmp_path).left_out.counts == {"neither a file nor a folder": 1}


def test_a_subfolder_that_cannot_be_read_is_counted_and_the_folder_itself_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.png", "b/c.png")
    scandir = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("/b"):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    found = find_images(tmp_path)
    assert found.names == ["a.png"]
    assert found.left_out.lines() == [f"1 unreadable: File name too long ({tmp_path}/b)"]
    with pytest.raises(OSError, match="File name too long"):
        find_images(tmp_path / "b")


def test_the_summary_is_bounded(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{k}.{ending}" for k in range(EXAMPLES + 1) for ending in "abcdefghij"))
    lines = find_images(tmp_path).left_out.lines()
    assert len(lines) == REASONS + 1
    assert lines[0].endswith(f"{tmp_path}/2.a, …)")
    assert lines[-1] == "8 for 2 other reasons"


def test_a_name_that_is_not_utf8_is_found_and_printable(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")).touch()
    (name,) = find_images(tmp_path).names
    assert os.fsencode(name) == b"caf\xe9.png"
    assert printable(name) == r"caf\xe9.png"
    assert printable("café.png") == "café.png"


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_an_error_that_passes_is_retried_and_the_others_are_not(number: int) -> None:
    waits: list[float] = []
    failures = [number, number]

    def read() -> str:
        if failures:
            raise OSError(failures.pop(), "passing")
        return "content"

    assert Retries(sleep=waits.append)(read) == "content"
    assert waits == list(DELAYS)
    failures[:] = [errno.ENOENT]
    with pytest.raises(OSError, match="passing"):
        Retries(sleep=waits.append)(read)
    assert waits == list(DELAYS)


def test_after_many_files_that_stay_unreadable_nothing_is_repeated() -> None:
    waits: list[float] = []
    retry = Retries(limit=2, sleep=waits.append)

    def read() -> None:
        raise PermissionError(errno.EACCES, "no")

    for _ in range(5):
        with pytest.raises(PermissionError):
            retry(read)
    assert waits == 2 * list(DELAYS)
