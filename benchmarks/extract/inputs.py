"""Makes the inputs: the same files on every machine, once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.extract.programs.timing import read_idx
from benchmarks.serving.load import BenchmarkError
from partedvae.common.cpus import available_cpus

SIDE = 28
"""Height and width of MNIST's images."""
FILES_PER_FOLDER = 100
JPEG_SIZE = (640, 480)

Kind = Literal["array", "png", "jpeg"]


@dataclass(frozen=True, kw_only=True)
class Input:
    """An input of the benchmark."""

    kind: Kind
    name: str
    """Shown in the table."""
    path: Path
    images: int


def make_inputs(mnist: Path, folder: Path, pngs: int, jpegs: int) -> list[Input]:
    """Make the inputs that are not there yet.

    Args:
        mnist: folder of MNIST's files, from which all inputs are made.
        folder: where to write image files.
        pngs: number of small PNG files.
        jpegs: number of JPEG files.

    Raises:
        BenchmarkError: MNIST is not there.
    """
    array = mnist / "train-images-idx3-ubyte"
    if not array.exists():
        raise BenchmarkError(f"{array} does not exist; 'partedvae data get mnist' downloads it")
    digits = read_idx(array, SIDE, SIDE)[..., 0]
    png, jpeg = folder / f"png-{pngs}", folder / f"jpeg-{jpegs}"
    _make(png, ".png", pngs, (Image.fromarray(digits[i % len(digits)]) for i in range(pngs)))
    _make(jpeg, ".jpg", jpegs, _photographs(digits, jpegs))
    width, height = JPEG_SIZE
    return [
        Input(kind="array", name=f"{len(digits):,} MNIST images in one file", path=array, images=len(digits)),
        Input(kind="png", name=f"{pngs:,} PNG files of {SIDE}x{SIDE}", path=png / "images", images=pngs),
        Input(kind="jpeg", name=f"{jpegs:,} JPEG files of {width}x{height}", path=jpeg / "images", images=jpegs),
    ]


def _photographs(digits: NDArray[np.uint8], count: int) -> Iterator[Image.Image]:
    """Yield colour images with about as many details as photographs: enlarged digits, a gradient, and noise."""
    width, height = JPEG_SIZE
    gradient = np.linspace(0, 60, height)[:, None, None] + np.linspace(0, 160, width)[None, :, None]
    noise = np.random.default_rng(0).integers(0, 32, (height, width, 3))
    background = (0.5 * gradient + noise).astype(np.uint8)
    for i in range(count):
        digit = Image.fromarray(digits[i % len(digits)] // 2).resize(JPEG_SIZE, Image.Resampling.BICUBIC)
        yield Image.fromarray(np.roll(background, i, axis=1) + np.asarray(digit)[..., None])


def _make(folder: Path, suffix: str, count: int, images: Iterator[Image.Image]) -> None:
    """Write images into subfolders; a folder that is complete stays."""
    done = folder / "complete"
    if done.exists():
        return
    with ThreadPoolExecutor(available_cpus()) as threads:
        for first in range(0, count, FILES_PER_FOLDER):
            parent = folder / "images" / f"{first // FILES_PER_FOLDER:03}"
            parent.mkdir(parents=True, exist_ok=True)
            some = itertools.islice(images, min(FILES_PER_FOLDER, count - first))
            for _ in threads.map(_save, (parent / f"{first + i:06}{suffix}" for i in itertools.count()), some):
                pass
    done.touch()


def _save(path: Path, image: Image.Image) -> None:
    image.save(path)
