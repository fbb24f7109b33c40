"""Tar archives, as WebDataset writes them, whole and damaged."""

from __future__ import annotations

import errno
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from partedvae.serving.errors import InvalidInputError
from partedvae.serving.extract.sources import outage, tars
from partedvae.serving.extract.sources.open import open_source
from partedvae.serving.extract.sources.options import ALL_COLUMNS, InputOptions
from partedvae.serving.extract.sources.outage import StorageError
from tests.serving.extract.sources.reading import IMAGES, png, read, read_part, write_tar


def members(first: int, last: int) -> dict[str, bytes]:
    """Return the members of a shard: an image and two values per sample."""
    content: dict[str, bytes] = {}
    for number in range(first, last):
        content |= {f"{number}.cls": f"{number % 3}\n".encode(), f"{number}.png": png(number)}
        content |= {f"{number}.json": b'{"a": 1}'} if number % 2 else {}
    return content


@pytest.mark.parametrize(
    ("suffix", "mode"), [(".tar", "w"), (".tar.gz", "w:gz"), (".tgz", "w:gz"), (".tar.xz", "w:xz")]
)
def test_shards_are_read_in_order(suffix: str, mode: str, tmp_path: Path) -> None:
    for shard in range(3):
        write_tar(tmp_path / f"shard-{shard}{suffix}", members(4 * shard, 4 * shard + 4), mode)
    keys = [f"shard-{number // 4}{suffix}/{number}.png" for number in range(12)]
    for pattern in ("*", "shard-{0..2}", "shard-[0-2]"):
        source = open_source(f"{tmp_path}/{pattern}{suffix}", InputOptions(columns=("cls", "json")))
        rows = read_part(source.part(0, 12))
        assert rows.keys == keys
        np.testing.assert_array_equal(rows.images, IMAGES)
        assert rows.columns["cls"] == [str(number % 3) for number in range(12)]
        assert rows.columns["json"] == ['{"a": 1}' if number % 2 else None for number in range(12)]
        middle = read_part(source.part(3, 9), batch_size=2)
        assert middle.keys == keys[3:9]
        np.testing.assert_array_equal(middle.images, IMAGES[3:9])
    one = read(tmp_path / f"shard-1{suffix}", path_style="absolute")
    assert one.keys == [f"{tmp_path}/{key}" for key in keys[4:8]]


def test_members_that_are_not_images_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    write_tar(path, {"a.png": png(0), "a.txt": b"x", "._a.png": b"x", "b/c.left.png": png(1), "b/c.right.png": png(2)})
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "a.png"
        tar.addfile(link)
        folder = tarfile.TarInfo("empty")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    source = open_source(path)
    assert read_part(source.part(0, 3)).keys == ["x.tar/a.png", "x.tar/b/c.left.png", "x.tar/b/c.right.png"]
    assert source.left_out.lines() == [
        "1 ending in .txt, which is not read (x.tar/a.txt)",
        "1 hidden (x.tar/._a.png)",
        "1 neither a file nor a folder (x.tar/link.png)",
    ]


def test_a_truncated_archive_keeps_what_is_before_the_end(tmp_path: Path) -> None:
    """At every length: all images that are whole are read, nothing else is, and the damage is reported."""
    write_tar(tmp_path / "whole.tar", {f"{number}.png": png(number) for number in range(3)})
    content = (tmp_path / "whole.tar").read_bytes()
    with tarfile.open(tmp_path / "whole.tar") as tar:
        ends = [member.offset_data + member.size for member in tar]
    path = tmp_path / "cut.tar"
    for length in range(0, 3 * 1024 + 512, 100):
        path.write_bytes(content[:length])
        whole = sum(length >= end for end in ends)
        if length <= 512:
            with pytest.raises(InvalidInputError, match=r"cut\.tar contains no images"):
                open_source(path)
            continue
        source = open_source(path)
        rows = read_part(source.part(0, len(source)))
        np.testing.assert_array_equal(rows.images, IMAGES[:whole], err_msg=str(length))
        reasons = [error for error in rows.errors if error is not None]
        assert len(rows.errors) - len(reasons) == whole
        assert all("of its" in reason and "it is truncated, download it again" in reason for reason in reasons)
        assert len(reasons) <= 1
        (line,) = source.left_out.lines()
        assert line.startswith("1 damaged, read up to the damage: ")
        assert line.endswith(f"({path})")


def test_damage_in_the_middle_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    write_tar(path, {f"{number}.png": png(number) for number in range(3)})
    content = bytearray(path.read_bytes())
    content[1024:1100] = b"\xff" * 76
    path.write_bytes(content)
    source = open_source(path)
    assert read_part(source.part(0, len(source))).keys == ["x.tar/0.png"]
    assert source.left_out.lines() == [
        f"1 damaged, read up to the damage: no member begins at byte 1,024: download it again ({path})"
    ]


def test_the_hash_notices_another_archive(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    write_tar(path, {"0.png": png(0)})
    first = open_source(path).manifest_hash
    assert open_source(path).manifest_hash == first
    os.utime(path, ns=(1, 1))
    assert open_source(path).manifest_hash != first


def test_an_archive_that_disappears_is_rows_with_the_reason(tmp_path: Path) -> None:
    for name in "ab":
        write_tar(tmp_path / f"{name}.tar", {"0.png": png(0), "1.png": png(1)})
    source = open_source(f"{tmp_path}/?.tar")
    (tmp_path / "a.tar").unlink()
    rows = read_part(source.part(0, 4))
    assert rows.errors == ["No such file or directory"] * 2 + [None] * 2


def test_a_folder_of_archives_that_is_gone_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted once per archive, over all parts; a read that works begins anew."""
    monkeypatch.setattr(outage, "OUTAGE", 8)
    (tmp_path / "shards").mkdir()
    for name in "abcdefg":
        write_tar(tmp_path / "shards" / f"{name}.tar", {f"{number}.png": png(number) for number in range(2)})
    source = open_source(f"{tmp_path}/shards/?.tar")
    missing = "No such file or directory"
    (tmp_path / "shards/a.tar").unlink()
    (tmp_path / "shards/c.tar").unlink()
    assert read_part(source.part(0, 6)).errors == [missing, missing, None, None, missing, missing]
    (tmp_path / "shards").rename(tmp_path / "elsewhere")
    for _ in range(3):
        assert read_part(source.part(6, 10)).errors == [missing] * 4
    with pytest.raises(StorageError, match=r"f\.tar: No such file or directory, like those before it: the storage is"):
        read_part(source.part(10, 12))


def test_an_archive_is_compared_until_that_has_worked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that fails for a moment is not one that has passed: members of another archive are elsewhere."""
    path = tmp_path / "x.tar"
    write_tar(path, {"0.png": png(0), "1.png": png(1)})
    source = open_source(path)
    reader = source.part(0, 2)
    write_tar(path, {"0.png": png(2), "1.png": png(3)})
    with monkeypatch.context() as patched:

        def failing(*_: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        patched.setattr(tars, "check_unchanged", failing)
        assert read_part(reader).errors == ["Input/output error"] * 2
    with pytest.raises(InvalidInputError, match=r"x\.tar was changed while it was read"):
        read_part(reader)


def test_neighbouring_members_are_read_together_from_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    """In ranges of a limited length, also where they do not follow one another."""
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for number in range(8):
            info = tarfile.TarInfo(f"{number}.png")
            info.size = len(png(number))
            tar.addfile(info, io.BytesIO(png(number)))
    files.pipe("/shards/x.tar", packed.getvalue())
    try:
        source = open_source("memory://shards/x.tar")
        monkeypatch.setattr(tars, "RANGE", 2048)
        spans: list[tuple[int, int]] = []
        cat_file = files.cat_file

        def recording(self: object, path: str, start: int = 0, end: int = 0) -> bytes:
            spans.append((start, end))
            content: bytes = cat_file(path, start, end)
            return content

        monkeypatch.setattr(type(files), "cat_file", recording)
        rows = read_part(source.part(0, 8), batch_size=8)
        np.testing.assert_array_equal(rows.images, IMAGES[:8])
        assert 1 < len(spans) < 8
        assert all(end - start <= 2048 for start, end in spans)
    finally:
        files.rm("/shards", recursive=True)


@pytest.mark.parametrize(
    ("given", "options", "error", "message"),
    [
        ("x-{0..2}.tar", {}, OSError, "x-1.tar"),
        ("*.tgz", {}, InvalidInputError, r"no archive matches \*.tgz"),
        ("text.tar", {}, InvalidInputError, r"text.tar contains no images .*damaged, .*text.tar"),
        ("text.tar.gz", {}, InvalidInputError, "text.tar.gz cannot be unpacked: Not a gzipped file"),
        ("x-0.tar", {"columns": ALL_COLUMNS}, InvalidInputError, "--columns all is for tables; name endings"),
        ("x-0.tar", {"columns": ("error",)}, InvalidInputError, "the column 'error' of x-0.tar has the name of one of"),
        ("x-0.tar", {"root": "x"}, InvalidInputError, "--root is for lists of paths"),
    ],
)
def test_bad_archives_are_refused(
    given: str,
    options: dict[str, object],
    error: type[Exception],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tar(tmp_path / "x-0.tar", {"0.png": png(0)})
    (tmp_path / "text.tar").write_bytes(b"some text" * 100)
    (tmp_path / "text.tar.gz").write_bytes(b"some text" * 100)
    with pytest.raises(error, match=message):
        open_source(given, InputOptions(**options))  # type: ignore[arg-type]
