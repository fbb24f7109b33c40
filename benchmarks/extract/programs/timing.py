"""What all programs have in common."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from partedvae.serving.bundle import Bundle, factor_output

IDX_HEADER = 16
"""Bytes before the pixels of an IDX file of images."""


class Stopwatch:
    """Measures the work of a program, without its start: interpreter, imports and model."""

    def __init__(self) -> None:
        """Start."""
        self._started = time.perf_counter()

    def report(self, images: int) -> None:
        """Print the result."""
        print(json.dumps({"images": images, "seconds": time.perf_counter() - self._started}))


def read_idx(path: Path, height: int, width: int) -> NDArray[np.uint8]:
    """Return the images of an IDX file, uint8 [images, height, width, 1]."""
    return np.fromfile(path, dtype=np.uint8, offset=IDX_HEADER).reshape(-1, height, width, 1)


def list_files(folder: Path) -> list[str]:
    """Return the paths of all files of a folder and its subfolders, sorted."""
    return sorted(os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names)  # noqa: PTH118


def decode(path: str, size: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Decode a file in the plainest way, uint8 [height, width, channels]."""
    height, width, channels = size
    with Image.open(path) as image:
        converted = image.convert("L" if channels == 1 else "RGB")
    if converted.size != (width, height):
        converted = converted.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(converted).reshape(size)


def image_size(bundle: Bundle) -> tuple[int, int, int]:
    """Return height, width and channels of the model's images."""
    image = bundle.manifest.image
    return image.height, image.width, image.channels


def output_names(bundle: Bundle) -> Sequence[str]:
    """Return the outputs of the encoder that an extraction writes."""
    return [factor_output(factor.name, kind) for factor in bundle.manifest.factors for kind in ("probs", "u_mean")]
