"""The memory that whole extractions use, in processes of their own that are told to have 64 processors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.bundles import COLOURED
from tests.processes import ServerProcess, running_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs the peak that Linux reports"),
]

MOST = 350
"""MB beside what the extraction of one small image uses, which are interpreter, libraries and model."""
PROGRAM = """
import re, sys
from pathlib import Path
from partedvae.common import cpus
cpus.available_cpus = lambda: 64  # before any other module imports it
from partedvae.cli.main import main
try:
    main(sys.argv[1:])
finally:
    found = re.search(r"^VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    print("peak", int(found[1]) // 1000)
"""


def peak(source: Path, output: Path, *options: object) -> int:
    """Extract in a process of its own, and return the most memory that it had, in MB."""
    command = [sys.executable, "-c", PROGRAM, "extract", str(source), "--output", str(output), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.rpartition("peak ")[2])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a model of images as large as those of CelebA, whose batches are large."""
    folder = tmp_path_factory.mktemp("models")
    replace(COLOURED, height=218, width=178, familiar_negative_elbo=1e9).write(folder / "faces")
    return folder


@pytest.fixture(scope="module")
def faces_server(models: Path) -> Iterator[ServerProcess]:
    """Run a server of the model."""
    with running_server(models) as process:
        yield process


@pytest.fixture(scope="module")
def base(models: Path, tmp_path_factory: pytest.TempPathFactory) -> int:
    """Return the peak with one small image, in MB."""
    folder = tmp_path_factory.mktemp("base")
    Image.new("RGB", (8, 8)).save(folder / "image.png")
    return peak(folder / "image.png", folder / "features.parquet", "--model", models / "faces")


def write_copies(folder: Path, size: tuple[int, int], count: int) -> Path:
    """Write one JPEG file under several names."""
    blocks = np.random.default_rng(0).integers(0, 256, (size[1] // 50, size[0] // 50, 3), dtype=np.uint8)
    folder.mkdir()
    first = folder / "0000.jpg"
    Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST).save(first)
    for number in range(1, count):
        os.link(first, folder / f"{number:04}.jpg")
    return folder


@pytest.mark.parametrize(
    ("size", "count", "batch_size"),
    [pytest.param((178, 218), 400, 256, marks=pytest.mark.exhaustive), ((4000, 3000), 16, 1)],
    ids=["faces", "photographs"],
)
@pytest.mark.parametrize("where", ["here", pytest.param("server", marks=pytest.mark.exhaustive)])
def test_it_has_a_bound(
    size: tuple[int, int],
    count: int,
    batch_size: int,
    where: str,
    models: Path,
    base: int,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    folder = write_copies(tmp_path / "images", size, count)
    if where == "here":
        options = ("--model", str(models / "faces"))
    else:
        options = ("--server", request.getfixturevalue("faces_server").address)
    output = tmp_path / "features.parquet"
    used = peak(folder, output, *options, "--batch-size", batch_size) - base
    table = pq.read_table(output, columns=["error"])
    assert (len(table), table["error"].null_count) == (count, count)
    assert used < MOST
