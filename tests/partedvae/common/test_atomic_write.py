"""Files appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from partedvae.common.atomic_write import write_aside, write_json


def test_a_file_appears_whole_by_way_of_one_of_the_process_own(tmp_path: Path) -> None:
    asides = []

    def write(aside: Path) -> None:
        asides.append(aside)
        aside.write_text("new")
        assert (tmp_path / "file").read_text() == "old"

    (tmp_path / "file").write_text("old")
    write_aside(tmp_path / "file", write)
    assert asides == [tmp_path / f".file.{os.getpid()}.partial"]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "new"


def test_nothing_is_left_of_a_file_that_could_not_be_written(tmp_path: Path) -> None:
    write_json(tmp_path / "file", 1)

    def write_half(aside: Path) -> None:
        aside.write_text("{")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        write_aside(tmp_path / "file", write_half)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "1\n"
