"""Commands of training in surroundings that are not as PyTorch expects."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_a_folder_that_was_deleted_meanwhile_is_an_error(tmp_path: Path) -> None:
    """PyTorch's Intel MKL would end the process, and name a library."""
    folder = tmp_path / "deleted"
    folder.mkdir()
    result = subprocess.run(
        ["sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh", sys.executable, "-m", "partedvae", "train", "mnist"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert result.stderr == "Error: the current folder has been deleted; change to another one\n"
