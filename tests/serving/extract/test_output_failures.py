"""Outputs that cannot be written: one line names them, and nothing that is done is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.bundles import GREY
from tests.serving.extraction import extract


@pytest.fixture
def array(tmp_path: Path) -> Path:
    np.save(tmp_path / "images.npy", GREY.random_images(100))
    return tmp_path / "images.npy"


@pytest.fixture
def model(tiny_models: Path) -> Path:
    return tiny_models / "tiny"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a limit of the size of files")
def test_a_full_disk_loses_nothing(array: Path, model: Path, tmp_path: Path) -> None:
    """The file that cannot be written is named; with space the same command goes on."""
    output = tmp_path / "features.parquet"
    np.save(array, GREY.random_images(2000))
    # Parts are smaller than the limit, the file is larger.
    limited = (
        "import resource; from partedvae.cli.main import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)); main()"
    )
    program = [sys.executable, "-c", limited, "extract", str(array), "--output", str(output), "--model", str(model)]
    program += ["--rows-per-part", "100", "--include", "class,u,z,probs"]
    full = subprocess.run(program, capture_output=True, text=True, check=False)
    assert full.returncode == 1
    assert full.stdout == ""
    lines = full.stderr.splitlines()
    assert lines == [
        f"20 of 20 parts of {output} kept; run the same command again to go on",
        f"Error: {output}: File too large; nothing was written; free space there, or write elsewhere",
    ]
    result = extract(array, output, "--model", model, "--rows-per-part", 100, "--include", "class,u,z,probs")
    assert (result.exit_code, result.stderr) == (0, "resuming: 20 of 20 parts are done\n")
    assert pq.read_table(output)["index"].to_pylist() == list(range(2000))


def test_a_folder_that_cannot_be_written_is_named(array: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = extract(array, tmp_path / "file" / "features", "--model", model)
    assert result.exit_code == 1
    assert result.stderr == f"Error: {tmp_path / 'file' / 'features'}: Not a directory\n"
