"""Helpers of the tests of batch extraction."""

from pathlib import Path

import numpy as np
from click.testing import CliRunner, Result

from partedvae.cli.main import main
from partedvae.results import ImageArray

COUNT = 700
"""More images than two batches."""


def extract(source: Path | str, output: Path | str, *options: object) -> Result:
    return CliRunner().invoke(main, ["extract", str(source), "--output", str(output), *map(str, options)])


def idx(images: ImageArray) -> bytes:
    rank = images.ndim
    return bytes([0, 0, 8, rank]) + np.array(images.shape, dtype=">u4").tobytes() + images.tobytes()
