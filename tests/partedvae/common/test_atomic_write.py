"""Files are written completely or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
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


LIMITED = """
import resource, signal, sys
from pathlib import Path
from partedvae.common.atomic_write import write_json

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_json(Path(sys.argv[1]), "x" * 2000)
except OSError as error:
    print(error.strerror, error.filename)
"""


@pytest.mark.parametrize("kept", [True, False], ids=["replaced", "new"])
def test_a_full_disk_is_an_error_that_names_the_file_and_what_is_left(tmp_path: Path, kept: bool) -> None:
    """A limit on the size of files, which stands in for a full disk."""
    path = tmp_path / "file"
    if kept:
        write_json(path, 1)
    result = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, timeout=60, check=True
    )
    left = "the earlier one is kept" if kept else "nothing was written"
    assert result.stdout == f"File too large; {left}; free some space and try again {path}\n"
    assert [entry.name for entry in tmp_path.iterdir()] == (["file"] if kept else [])
