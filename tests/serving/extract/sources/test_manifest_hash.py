"""The hash of an input, by which extractions are resumed, and inputs that are replaced while they are read."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from partedvae.serving.errors import InvalidInputError
from partedvae.serving.extract.sources.open import open_source
from partedvae.serving.extract.sources.options import InputOptions, PathStyle
from tests.serving.extract.sources.reading import IMAGES, png, read_part, write_images, write_tar
from tests.serving.extraction import idx


def hash_of(given: object, **options: object) -> str:
    return open_source(str(given), InputOptions(**options)).manifest_hash  # type: ignore[arg-type]


def test_relative_paths_of_a_list_are_those_of_a_folder(tmp_path: Path) -> None:
    """The same list in another folder, or with another --root, has other images; absolute paths stay the same."""
    for name in ("one", "other"):
        write_images(tmp_path / name, ["a.png"])
        (tmp_path / name / "list.txt").write_text("a.png\n")
        (tmp_path / name / "absolute.txt").write_text(f"{tmp_path}/one/a.png\ns3://bucket/b.png\n")
    one, other = (hash_of(tmp_path / name / "list.txt") for name in ("one", "other"))
    assert one != other
    assert hash_of(tmp_path / "other/list.txt", root=str(tmp_path / "one")) == one
    assert hash_of(tmp_path / "one/absolute.txt") == hash_of(tmp_path / "other/absolute.txt")


@pytest.mark.parametrize(
    ("style", "same"), [("relative", True), ("as-given", False), ("absolute", True), ("url", True)]
)
def test_another_spelling_of_a_folder_changes_keys_as_given(
    style: PathStyle, same: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of two extractions with different keys never come together."""
    write_images(tmp_path / "in", ["a.png"])
    monkeypatch.chdir(tmp_path)
    assert hash_of("in/", path_style=style) == hash_of("in", path_style=style)
    assert (hash_of("in", path_style=style) == hash_of(tmp_path / "in", path_style=style)) is same
    moved = (tmp_path / "in").rename(tmp_path / "moved")
    hashes = [hash_of(moved, path_style=style)]
    moved.rename(tmp_path / "in")
    hashes.append(hash_of(tmp_path / "in", path_style=style))
    assert (len(set(hashes)) == 1) is (style == "relative")


def test_files_of_the_same_length_and_date_differ_by_name(tmp_path: Path) -> None:
    """As those of two data sets in an image of a container, where all files have one date."""
    for name in ("mnist", "fashion-mnist"):
        (tmp_path / name).mkdir()
        file = tmp_path / name / "t10k-images-idx3-ubyte"
        file.write_bytes(idx(IMAGES[..., 0]))
        os.utime(file, ns=(0, 0))
    assert hash_of("mnist:test", data_dir=tmp_path) != hash_of("fashion-mnist:test", data_dir=tmp_path)
    for name in ("a.npy", "b.npy"):
        np.save(tmp_path / name, IMAGES)
        os.utime(tmp_path / name, ns=(0, 0))
    assert hash_of(tmp_path / "a.npy") != hash_of(tmp_path / "b.npy")


def test_one_image_that_is_replaced_is_another_input(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(0))
    before = hash_of(tmp_path / "a.png")
    assert hash_of(tmp_path / "a.png") == before
    (tmp_path / "a.png").write_bytes(png(1) + b"x")
    assert hash_of(tmp_path / "a.png") != before


def _array(file: Path, count: int) -> None:
    np.save(file, IMAGES[:count])


def _archive(file: Path, count: int) -> None:
    mode = "w:gz" if file.suffix == ".gz" else "w"
    write_tar(file, {f"{number}.png": png(number) for number in range(count)}, mode)


def _parquet(file: Path, count: int) -> None:
    pq.write_table(pa.table({"image": [{"bytes": png(number)} for number in range(count)]}), file)


@pytest.mark.parametrize(
    ("name", "write"),
    [("x.npy", _array), ("x.tar", _archive), ("x.tar.gz", _archive), ("x.parquet", _parquet)],
)
def test_a_file_that_is_replaced_ends_its_parts(name: str, write: Callable[[Path, int], None], tmp_path: Path) -> None:
    """Other workers would read rows of the new one at the places of the old one."""
    write(tmp_path / name, 12)
    parts = [pickle.dumps(open_source(tmp_path / name).part(first, first + 4)) for first in (0, 4)]
    assert read_part(pickle.loads(parts[0])).errors == [None] * 4
    write(tmp_path / name, 11)
    with pytest.raises(InvalidInputError, match=rf"{name} was changed while it was read; run the command again"):
        read_part(pickle.loads(parts[1]))
