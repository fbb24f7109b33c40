"""Images in a memory-mapped .npy file, read on access."""

from __future__ import annotations

from pathlib import Path

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
