"""Folders and patterns of paths on this machine."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from partedvae.common.image_folder import find_images
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.extract.sources import files, listing, outage
from partedvae.serving.extract.sources.open import open_source
from partedvae.serving.extract.sources.options import PATH_STYLES, InputOptions, PathStyle
from partedvae.serving.extract.sources.outage import StorageError
from tests.serving.extract.sources.reading import IMAGES, png, read, read_part, write_images


def test_rows_are_in_the_order_of_the_names(tmp_path: Path) -> None:
    """That of training, whatever order the system lists folders in: "a-b" and "a.png" are before "a/"."""
    names = ["a-b.png", "a.png", "a/1.png", "a/2/x.png", "a0.png", "b/1.png"]
    write_images(tmp_path, names)
    rows = read(tmp_path)
    assert rows.keys == names == find_images(tmp_path).names
    np.testing.assert_array_equal(rows.images, IMAGES[: len(names)])


def test_a_long_list_is_on_disk_and_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number // 10:02}/{number:03}.png" for number in range(100)]
    write_images(tmp_path, names[:12])
    for name in names[12:]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(png(0))
    short = open_source(tmp_path)
    monkeypatch.setattr(listing, "BATCH_ROWS", 7)
    monkeypatch.setattr(listing, "SPOOL_BYTES", 500)
    scratch = tmp_path.with_name(f"{tmp_path.name}-scratch")
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    allocated = pa.total_allocated_bytes()
    long = open_source(tmp_path)
    assert pa.total_allocated_bytes() - allocated < 1000
    assert list(scratch.iterdir()) == []  # The files have no names any more, so nothing remains of them.
    assert read_part(long.part(0, 100)).keys == read_part(short.part(0, 100)).keys == names
    assert read_part(long.part(37, 52)).keys == names[37:52]


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path, ["a.png"])
    monkeypatch.setattr(listing, "SPOOL_BYTES", 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(
        OSError, match=r"the list of images cannot be written: .*; set TMPDIR to another folder"
    ) as caught:
        open_source(tmp_path)
    assert caught.value.filename == str(tmp_path / "nowhere")


def test_a_folder_that_is_gone_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows without features would be kept as done; files that are missing here and there are rows, and so in lists."""
    monkeypatch.setattr(outage, "OUTAGE", 4)
    folder = tmp_path / "photos"
    write_images(folder, [f"{number:02}.png" for number in range(12)])
    (tmp_path / "list.txt").write_text("".join(f"photos/{number:02}.png\n" for number in range(12)))
    source = open_source(folder)
    for number in (0, 1, 2, 4, 5, 6):
        (folder / f"{number:02}.png").unlink()
    missing = "No such file or directory"
    assert read_part(source.part(0, 8)).errors == [*[missing] * 3, None, *[missing] * 3, None]
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(
        StorageError, match=r"photos/03\.png: No such file or directory, like those before it: .*photos was removed"
    ):
        read_part(source.part(0, 12))
    assert read(tmp_path / "list.txt").errors == [missing] * 12


def test_a_disk_that_fails_ends_the_run_and_files_without_permission_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a list, whose missing files are rows."""
    monkeypatch.setattr(outage, "OUTAGE", 4)
    write_images(tmp_path, [f"{number}.png" for number in range(8)])
    (tmp_path / "list.txt").write_text("".join(f"{number}.png\n" for number in range(8)))
    source, number = open_source(tmp_path / "list.txt"), errno.EACCES

    def failing(path: str) -> bytes:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(files, "read_file", failing)
    assert read_part(source.part(0, 8)).errors == ["Permission denied"] * 8
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(StorageError, match=r"3\.png: Permission denied, like those before it: the storage is not"):
        read_part(source.part(0, 8))
    number, source = errno.EIO, open_source(tmp_path / "list.txt")
    with pytest.raises(StorageError, match=r"3\.png: Input/output error, like those before it: the storage"):
        read_part(source.part(0, 8))


def test_the_hash_notices_what_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names, sizes and dates are in it, and not how the list is stored."""
    write_images(tmp_path / "in", ["a.png", "b.png", "c.png"])
    first = open_source(tmp_path / "in").manifest_hash
    with monkeypatch.context() as patch:
        patch.setattr(listing, "SPOOL_BYTES", 0)
        assert open_source(tmp_path / "in").manifest_hash == first
    hashes = {first}
    os.utime(tmp_path / "in/a.png", ns=(1, 1))
    hashes.add(open_source(tmp_path / "in").manifest_hash)
    facts = (tmp_path / "in/a.png").stat()
    (tmp_path / "in/a.png").write_bytes(b"longer" * 1000)
    os.utime(tmp_path / "in/a.png", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    hashes.add(open_source(tmp_path / "in").manifest_hash)
    (tmp_path / "in/b.png").rename(tmp_path / "in/bb.png")
    hashes.add(open_source(tmp_path / "in").manifest_hash)
    (tmp_path / "in/c.png").unlink()
    hashes.add(open_source(tmp_path / "in").manifest_hash)
    assert len(hashes) == 5


@pytest.mark.parametrize("style", PATH_STYLES)
def test_paths_in_every_style(style: PathStyle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "my photos", ["sub/ü.png"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text("my photos/sub/ü.png\n../x.png\n")
    absolute = f"{tmp_path}/my photos/sub/ü.png"
    expected: dict[PathStyle, tuple[str, str, str, str, list[str]]] = {
        "relative": ("sub/ü.png", "ü.png", "sub/ü.png", "ü.png", ["my photos/sub/ü.png", "../x.png"]),
        "as-given": (
            "./my photos/sub/ü.png",
            "my photos/sub/ü.png",
            "my photos/sub/ü.png",
            "my photos/sub/ü.png",
            ["my photos/sub/ü.png", "../x.png"],
        ),
        "absolute": (absolute, absolute, absolute, absolute, [absolute, f"{tmp_path.parent}/x.png"]),
    }
    url = Path(absolute).as_uri()
    expected["url"] = (url, url, url, url, [url, (tmp_path.parent / "x.png").as_uri()])
    folder, single, pattern, brace, listed = expected[style]
    options = {"path_style": style}
    assert read("./my photos/", **options).keys == [folder]
    assert read("my photos/sub/ü.png", **options).keys == [single]
    assert read("my photos/**/*.png", **options).keys == [pattern]
    assert read("my photos/sub/?.{png,jpg}", **options).keys == [brace]
    assert read("list.txt", **options).keys == listed


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("in/*.png", ["1.png", "2.png"]),
        ("in/**/*.png", ["1.png", "2.png", "a/3.png", "a/b/4.png", "c/6.png"]),
        ("in/*/*.png", ["a/3.png", "c/6.png"]),
        ("in/[!2].png", ["1.png"]),
        ("in/a/**", ["3.png", "b/4.png"]),
        ("in/{1,a/3}.png", ["in/1.png", "in/a/3.png"]),
        ("in/{a,c}/*.png", ["a/3.png", "c/6.png"]),
        ("in/{1..2}.*", ["1.png", "2.png"]),
        ("in/x[1]", ["7.png"]),
    ],
)
def test_patterns(pattern: str, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = ["1.png", "2.png", "a/3.png", "a/b/4.png", ".h/5.png", "c/6.png", "x[1]/7.png", "1.txt"]
    write_images(tmp_path / "in", files)
    rows = read(pattern)
    if "x[1]" in pattern:  # the name of a folder rather than a pattern
        assert rows.keys == names
        return
    assert [key for key in rows.keys if not key.startswith("x[1]")] == names
    assert rows.errors == [None] * len(rows.keys)


def test_files_that_a_pattern_does_not_ask_for_are_not_left_out(tmp_path: Path) -> None:
    write_images(tmp_path, ["1.png"])
    (tmp_path / "a.txt").touch()
    (tmp_path / "b.avif").touch()
    assert open_source(f"{tmp_path}/*.png").left_out.counts == {}
    assert open_source(f"{tmp_path}/[1b].*").left_out.lines() == [
        f"1 ending in .avif, which is not read ({tmp_path}/b.avif)"
    ]


def test_a_file_that_disappears_is_a_row(tmp_path: Path) -> None:
    write_images(tmp_path, ["a.png", "b.png", "c.png"])
    source = open_source(tmp_path)
    (tmp_path / "b.png").unlink()
    (tmp_path / "c.png").write_bytes(png(2)[:60])
    rows = read_part(source.part(0, 3))
    assert rows.errors[:2] == [None, "No such file or directory"]
    assert rows.errors[2] is not None
    assert rows.errors[2].startswith("damaged PNG file")


@pytest.mark.skipif(os.name != "posix", reason="a pipe")
@pytest.mark.parametrize("name", ["x.txt", "x.csv", "x.parquet", "x.tar", "x.tar.gz", "x.npy", "x.npz", "x.gz", "x"])
def test_a_pipe_that_nobody_writes_is_refused(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(OSError, match="neither a file nor a folder"):
        open_source(tmp_path / name)


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ("nowhere", {}, "nowhere does not exist: pass a folder of images"),
        ("mnits:test", {}, "mnits:test does not exist; did you mean 'mnist'?"),
        ("in/*.jpg", {}, r"in/\*.jpg contains no images"),
        ("in/*.csv", {}, r"in/\*.csv: patterns are for images and tar archives"),
        ("in/[z-a].png", {}, r"the pattern '\[z-a\].png' cannot be read: bad character range z-a"),
        ("in/{0..9999999}.png", {}, "stands for more than 100,000 names; write them into a list"),
        ("in", {"columns": ("label",)}, "--columns is for tables and tar archives, and in is neither"),
        ("in", {"root": "x"}, "--root is for lists of paths, and in is none"),
        ("in", {"path_column": "file"}, "--path-column is for tables and tar archives, and in is neither"),
        (
            "in/a.png",
            {"root": "x"},
            "--root is for lists of paths, and in/a.png is none",
        ),
        ("tars", {}, r"tars contains no images .*1 ending in .tar, .*; tar archives are read as 'FOLDER/\*.tar'"),
    ],
)
def test_bad_input_is_refused(
    given: str, options: dict[str, object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path, ["in/a.png"])
    (tmp_path / "tars").mkdir()
    (tmp_path / "tars/x.tar").touch()
    with pytest.raises(InvalidInputError, match=message):
        open_source(given, InputOptions(**options))  # type: ignore[arg-type]
