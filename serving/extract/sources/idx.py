"""IDX files, the format of MNIST."""

from __future__ import annotations

import math

import numpy as np

from partedvae.serving.errors import InvalidInputError
from partedvae.serving.extract.sources.arrays import ImageRows, truncated
from partedvae.serving.extract.sources.local_files import open_file
from partedvae.serving.extract.sources.numpy_files import check_images

INPUTS = "a folder of images, an IDX file, .npy, .npz, a .tar, or a list of paths as .txt, .csv or .parquet"
"""What the command reads, for errors."""


def open_idx(given: str, timeout: float) -> ImageRows:
    """Open an IDX file of images.

    The header: two zero bytes, 8 for uint8, the rank, then each dimension as a big-endian uint32.

    Args:
        given: path or URL; compressed ones are unpacked.
        timeout: seconds per read of a file at a URL.

    Raises:
        InvalidInputError: it is not an IDX file of images, or is shorter than its header says.
    """
    file = open_file(given, timeout)
    magic = file.read(0, 4)
    if magic[:2].strip(b"\0"):
        raise InvalidInputError(f"{given} has an unsupported format: pass {INPUTS}")
    if len(magic) < 4:
        raise InvalidInputError(truncated(given))
    if magic[2] != 8 or magic[3] not in (3, 4):
        raise InvalidInputError(
            f"{given} is an IDX file of type {magic[2]:#04x} and rank {magic[3]}; images have type 0x08 (uint8) "
            "and rank 3 or 4. Is it the file of labels?"
        )
    header = 4 + 4 * magic[3]
    shape = tuple(int(dim) for dim in np.frombuffer(file.read(4, 4 * (magic[3])).ljust(4 * magic[3], b"\0"), ">u4"))
    if file.size < header + math.prod(shape):
        raise InvalidInputError(truncated(given))
    check_images(np.dtype(np.uint8), shape, given)
    return ImageRows(file=file, shape=shape, offset=header)
