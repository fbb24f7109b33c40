"""Files are written completely or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from partedvae.common.atomic_write import atomic_write, write_json


def test_a_file_is_written_to_a_temporary_name_first(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with atomic_write(path) as temporary:
        assert temporary == tmp_path / f".file.{os.getpid()}.partial"
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
