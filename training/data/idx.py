"""The IDX file format of MNIST and its kin: a big-endian header, then unsigned bytes."""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.dataset import DataError

UINT8_CODE = 0x08


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, plain or gzipped (by its name's ending), as an array of its own shape.

    Raises:
        DataError: it is no IDX file of unsigned bytes, or shorter or longer than its header says.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError) as error:
        raise DataError(f"{path} is no gzip file: {error}; delete it and fetch it again") from error
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
