"""The IDX files of MNIST and its kin (a big-endian header, then unsigned bytes), and data sets of four of them."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from partedvae.training.data.dataset import DataError, DatasetInfo, ImageDataset, Split
from partedvae.training.data.fetch import Source, ensure_files

UINT8_CODE = 0x08


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes as an array of its own shape.

    Raises:
        DataError: it is no IDX file of unsigned bytes, or shorter or longer than its header says.
    """
    content = path.read_bytes()
    if len(content) < 4 or content[:2] != b"\x00\x00" or content[2] != UINT8_CODE:
        raise DataError(f"{path} is no IDX file of unsigned bytes; delete it and fetch it again")
    rank = content[3]
    header = 4 + 4 * rank
    if len(content) < header:
        raise DataError(f"{path} ends inside its header; delete it and fetch it again")
    shape = struct.unpack(f">{rank}I", content[4:header])
    if len(content) - header != math.prod(shape):
        raise DataError(
            f"{path} has {len(content) - header} bytes of data, its header says {shape}; delete it and fetch it again"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def load_idx_dataset(folder: Path, info: DatasetInfo, source: Source) -> ImageDataset:
    """Load a data set of one factor from four IDX files with MNIST's names; everything is in memory.

    Args:
        folder: the data set's own folder; what is missing there is fetched.
        info: its description.
        source: where the files come from.

    Raises:
        DataError: it cannot be had, or a file is not the original.
    """
    files = ensure_files(folder, source)
    return ImageDataset(
        info=info,
        train=_split(files["train-images-idx3-ubyte"], files["train-labels-idx1-ubyte"]),
        test=_split(files["t10k-images-idx3-ubyte"], files["t10k-labels-idx1-ubyte"]),
        source=dict(source.files),
    )


def _split(images: Path, labels: Path) -> Split:
    # Copies: an array over the file's bytes is read-only, which a tensor cannot be.
    pixels = torch.from_numpy(read_idx(images).copy()).unsqueeze(-1)
    classes = torch.from_numpy(read_idx(labels).astype("int64")).unsqueeze(-1)
    return Split(images=pixels, labels=classes)
