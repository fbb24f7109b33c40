"""Images in a memory-mapped .npy file, read on access, and the creation of such a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor


class MappedImages:
    """The images of a file, uint8 [count, height, width, channels]; the system caches them as its memory permits."""

    def __init__(self, path: Path) -> None:
        """Open the file."""
        self._pixels: NDArray[np.uint8] = np.load(path, mmap_mode="r")
        self.memory = f"{self._pixels.nbytes / 1e6:,.0f} MB in a memory-mapped file"

    @property
    def shape(self) -> tuple[int, ...]:
        """Count, height, width, channels."""
        return self._pixels.shape

    def __len__(self) -> int:
        """Count the images."""
        return len(self._pixels)

    def __getitem__(self, indices: Tensor) -> UInt8[Tensor, "batch height width channels"]:
        """Return the images of an index tensor, in its order."""
        return torch.from_numpy(self._pixels[indices.numpy()])


def create_mapped(path: Path, shape: Sequence[int]) -> np.memmap[Any, np.dtype[np.uint8]]:
    """Create a memory-mapped .npy file of uint8 zeros to write to.

    Args:
        path: the file.
        shape: of the array.

    Raises:
        OSError: the disk is full.
    """
    array: np.memmap[Any, np.dtype[np.uint8]] = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.uint8, shape=tuple(shape)
    )
    # Reserves the space: the file is sparse, and writing to it on a full disk would end the process with SIGBUS.
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array
