"""IDX files (a big-endian header, then unsigned bytes), and data sets of four IDX files, such as MNIST."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from partedvae.common.dataset_files import IDX_IMAGES, IDX_LABELS
from partedvae.training.data.dataset import DataError, DatasetInfo, ImageDataset, Split
from partedvae.training.data.fetch import Source, ensure_files

UINT8_CODE = 0x08


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes as an array.

    Raises:
        DataError: the file is not an IDX file of unsigned bytes, or its length does not match its header.
    """
    content = path.read_bytes()
    if len(content) < 4 or content[:2] != b"\x00\x00" or content[2] != UINT8_CODE:
        raise DataError(f"{path} is not an IDX file of unsigned bytes; delete it and run again to download it")
    rank = content[3]
    header = 4 + 4 * rank
    if len(content) < header:
        raise DataError(f"{path} ends inside its header; delete it and run again to download it")
    shape = struct.unpack(f">{rank}I", content[4:header])
    if len(content) - header != math.prod(shape):
        raise DataError(
            f"{path} has {len(content) - header} bytes of data, but its header states {shape}; "
            "delete it and run again to download it"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def load_idx_dataset(folder: Path, info: DatasetInfo, source: Source) -> ImageDataset:
    """Load a data set of one factor into memory, from four IDX files with the names of MNIST's.

    Args:
        folder: folder of the data set; missing files are downloaded to it.
        info: its description.
        source: where the files are available.

    Raises:
        DataError: the data set is not available, or a file is not the original.
    """
    files = ensure_files(folder, source)
    return ImageDataset(
        info=info,
        train=_split(files[IDX_IMAGES["train"]], files[IDX_LABELS["train"]]),
        test=_split(files[IDX_IMAGES["test"]], files[IDX_LABELS["test"]]),
        source=dict(source.files),
    )


def _split(images: Path, labels: Path) -> Split:
    # Copies, as an array over the bytes of the file is read-only, which tensors do not support.
    pixels = torch.from_numpy(read_idx(images).copy()).unsqueeze(-1)
    classes = torch.from_numpy(read_idx(labels).astype("int64")).unsqueeze(-1)
    return Split(images=pixels, labels=classes)
