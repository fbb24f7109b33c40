"""Registered data sets as inputs."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from partedvae.serving.errors import InvalidInputError
from partedvae.serving.extract.sources.open import open_source
from partedvae.serving.extract.sources.options import InputOptions
from tests.serving.extract.sources.reading import IMAGES, read
from tests.serving.extraction import idx


def test_the_faces_that_were_drawn_last_are_read(tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    np.save(tmp_path / "faces/test-64x64-old.npy", IMAGES[:3])
    np.save(tmp_path / "faces/test-64x64-new.npy", IMAGES[:5])
    np.save(tmp_path / "faces/test-218x178-new.npy", IMAGES[:7])

    os.utime(tmp_path / "faces/test-64x64-old.npy", (1, 1))
    assert len(read("faces:test", data_dir=tmp_path).keys) == 5
    assert len(read("faces-large:test", data_dir=tmp_path).keys) == 7


def test_a_folder_of_that_name_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mnist").mkdir()
    with pytest.raises(InvalidInputError, match="mnist contains no images"):
        open_source("mnist", InputOptions(data_dir=tmp_path))
    Path("mnist/t10k-images-idx3-ubyte").write_bytes(idx(IMAGES[..., 0]))
    np.testing.assert_array_equal(read("mnist:test", data_dir=tmp_path).images, IMAGES)


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (
            "mnist:test",
            {},
            "the data set mnist is not in {data}: get it with 'partedvae data get mnist', or pass --data",
        ),
        ("mnist:tset", {}, "'mnist:tset' is not a split of the data set mnist; write mnist:train or mnist:test"),
        ("mnist", {}, "'mnist' is not a split of the data set mnist; write mnist:train or mnist:test"),
        ("dsprites:test", {}, "'dsprites:test' is not a split of the data set dsprites; write dsprites:train"),
        ("dsprites", {}, "the data set dsprites is not in {data}: get it with 'partedvae data get dsprites'"),
        ("mnist:test", {"columns": ("x",)}, "--columns is for tables and tar archives, and mnist:test is neither"),
    ],
)
def test_a_data_set_that_cannot_be_read(
    given: str, options: dict[str, tuple[str, ...]], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInputError) as caught:
        open_source(given, InputOptions(data_dir=tmp_path, columns=options.get("columns", ())))
    assert str(caught.value).startswith(message.format(data=tmp_path))


def test_paths_of_an_array_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", IMAGES)
    with pytest.raises(InvalidInputError, match=r"--path-style is for images with paths, and the rows of .* an index"):
        open_source(tmp_path / "x.npy", InputOptions(path_style="url"))
