"""Inputs of batch extraction as other programs and systems write them: read right, or refused with the reason."""

from __future__ import annotations

import gzip
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from partedvae.results import ImageArray
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.extract.sources.open import open_source
from partedvae.serving.extract.sources.source import Part, Prepared, Source
from partedvae.v1.manifest_pb2 import ImageSpec
from tests.bundles import GREY
from tests.serving.extraction import idx

SPEC = ImageSpec(height=8, width=6, channels=1)
IMAGES = GREY.random_images(5)


def all_of(source: Source) -> Part:
    return source.part(0, len(source))


def read(path: Path) -> list[Prepared]:
    return [job(SPEC) for job in all_of(open_source(path)).jobs(2)]


def pixels(path: Path) -> ImageArray:
    return np.concatenate([prepared.images for prepared in read(path)])


def saved(path: Path, array: NDArray[Any] = IMAGES) -> Path:
    """Save an array under any name; NumPy would add the ending."""
    with path.open("wb") as file:
        np.save(file, array)
    return path


def test_files_are_known_by_their_content_and_endings_in_upper_case(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", IMAGES)
    (tmp_path / "a.npz").rename(tmp_path / "archive.npy")
    (tmp_path / "DIGITS.GZ").write_bytes(gzip.compress(idx(IMAGES)))
    paths = [saved(tmp_path / "X.NPY"), saved(tmp_path / "array.npz"), tmp_path / "archive.npy", tmp_path / "DIGITS.GZ"]
    for path in paths:
        np.testing.assert_array_equal(pixels(path), IMAGES, err_msg=path.name)


def damaged_archive(path: Path) -> None:
    np.savez_compressed(path, IMAGES)
    content = path.read_bytes()
    path.write_bytes(content[:60] + b"\xff" * 40 + content[100:])


def archive_of_text(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("notes.txt", "hello")


def encrypted_archive(path: Path) -> None:
    """Write an archive whose headers say that it needs a password."""
    np.savez(path, IMAGES)
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.rindex(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)


def npy_of_a_damaged_header(path: Path) -> None:
    path.write_bytes(b"\x93NUMPY\1\0\x10\0{'descr': (\0\0\0\0")


def gz_of_other_pixels(path: Path) -> None:
    """Write pixels that the checksum does not belong to."""
    content = bytearray(gzip.compress(idx(IMAGES), compresslevel=0))
    content[-20] ^= 255
    path.write_bytes(content)


def gz_of_a_huge_header(path: Path) -> None:
    path.write_bytes(gzip.compress(b"\0\0\x08\3" + b"\xff" * 12))


@pytest.mark.parametrize(
    ("write", "name", "message"),
    [
        (damaged_archive, "a.npz", r"a.npz cannot be read as a NumPy file: Error -3 while decompressing"),
        (encrypted_archive, "a.npz", r"a.npz cannot be read as a NumPy file: File 'arr_0.npy' is encrypted"),
        (
            lambda path: path.write_bytes(b"\x93NUMPY\1\0\x10\0{'descr': (\0\0\0\0"),
            "a.npy",
            r"a.npy cannot be read as a",
        ),
        (archive_of_text, "a.npz", r"a.npz cannot be read as a NumPy file: 'notes.txt' in it is not an array"),
        (gz_of_other_pixels, "a.gz", r"a.gz cannot be unpacked: CRC check failed .*; download it again"),
        (gz_of_a_huge_header, "a.gz", r"a.gz is shorter than its header says"),
        (lambda path: saved(path, IMAGES.astype(">u2")), "a.npy", r"a.npy is >u2, images are uint8; .*x // 257"),
        (lambda path: saved(path, IMAGES > 9), "a.npy", r"a.npy is bool, .*x.astype\(np.uint8\) \* 255"),
        (lambda path: saved(path, IMAGES[:, None, ..., 0]), "a.npy", r"move the channels to the end: np.moveaxis"),
        (lambda path: saved(path, np.repeat(IMAGES, 4, axis=3)), "a.npy", r"leave out the alpha channel: x\[..., :3\]"),
        (lambda path: path.write_bytes(b"a.png\0b.png\0"), "a.txt", r"a.txt cannot be read as a list .*null character"),
    ],
)
def test_what_cannot_be_read_is_refused(write: object, name: str, message: str, tmp_path: Path) -> None:
    assert callable(write)
    write(tmp_path / name)
    with pytest.raises(InvalidInputError, match=message):
        read(tmp_path / name)


@pytest.mark.skipif(os.name != "posix", reason="a pipe, and names that end in spaces")
def test_a_list_of_another_system_names_the_same_files(tmp_path: Path) -> None:
    """Keys are the names in the list, without what belongs to its lines; a pipe that nobody writes is a row's error."""
    (tmp_path / "sub").mkdir()
    for number, name in enumerate((" a.png", "sub/caf\u00e9.png", "c.png")):
        Image.fromarray(IMAGES[number, ..., 0]).save(tmp_path / name)
    os.mkfifo(tmp_path / "pipe.png")
    lines = [" a.png", "sub\\cafe\u0301.png", ".\\c.png  ", "pipe.png", "missing.png", ""]
    for end, encoding in (("\n", "utf-8"), ("\r\n", "utf-16"), ("\r", "utf-8-sig")):
        (tmp_path / "LIST.TXT").write_bytes(end.join(lines).encode(encoding))
        first, second, third = read(tmp_path / "LIST.TXT")
        np.testing.assert_array_equal(np.concatenate([first.images, second.images]), IMAGES[:3])
        assert [*second.errors, *third.errors] == [None, "neither a file nor a folder", "No such file or directory"]
        assert [*first.keys, *second.keys, *third.keys] == lines[:-1]
