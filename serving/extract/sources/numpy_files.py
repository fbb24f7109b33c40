"""NumPy files of images."""

from __future__ import annotations

import dataclasses
import functools
import math
import shutil
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib import format as npy

from partedvae.image_arrays import channels_remedy, dtype_remedy
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.extract.sources.arrays import ImageRows, truncated
from partedvae.serving.extract.sources.local_files import (
    KEPT_COPIES,
    LocalFile,
    facts_of,
    kept,
    open_file,
    temporary_copy,
)


def open_numpy(given: str, timeout: float) -> ImageRows:
    """Open an .npy file, or the array of images of an .npz file, whichever it is by its first bytes.

    Args:
        given: path or URL.
        timeout: seconds per read of a file at a URL.

    Raises:
        InvalidInputError: it is damaged, or has no array of images.
        OSError: it cannot be read.
    """
    rows, dtype = _open(given, timeout)
    check_images(dtype, rows.shape, given)
    return rows


def open_bits(given: str, timeout: float) -> ImageRows:
    """Open an .npy file of square images with one bit per pixel, uint8 [images, bytes], as training packs dSprites.

    Raises:
        InvalidInputError: it is another array; see `open_numpy` for others.
    """
    rows, dtype = _open(given, timeout)
    side = math.isqrt(8 * rows.shape[-1]) if len(rows.shape) == 2 else 0
    if dtype != np.uint8 or not side or side * side != 8 * rows.shape[-1] or rows.fortran_order:
        raise InvalidInputError(f"{given} is {dtype} {list(rows.shape)}, not square images of bits; make it again")
    return dataclasses.replace(rows, shape=(rows.shape[0], side, side), bits=True)


def _open(given: str, timeout: float) -> tuple[ImageRows, np.dtype[Any]]:
    try:
        file = open_file(given, timeout)
        if file.read(0, 2) == b"PK":
            file = _member(given, facts_of(given, timeout), timeout)
        with file.open() as stream:
            version = npy.read_magic(stream)
            read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, fortran_order, dtype = read_header(stream)
            offset = stream.tell()
    except (OSError, InvalidInputError):
        raise
    except Exception as error:  # zipfile, its decompressors and NumPy's reading of headers raise anything.
        raise InvalidInputError(f"{given} cannot be read as a NumPy file: {error}") from error
    if file.size < offset + math.prod(shape) * dtype.itemsize:
        raise InvalidInputError(truncated(given))
    return ImageRows(file=file, shape=shape, offset=offset, fortran_order=fortran_order), dtype


@functools.lru_cache(maxsize=KEPT_COPIES)
def _member(given: str, facts: str, timeout: float) -> LocalFile:
    """Return a temporary copy of the array of an .npz file: `images`, or the only one."""
    with open_file(given, timeout).open() as stream, zipfile.ZipFile(stream) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        if "images" not in names and len(names) != 1:
            raise ValueError(f"it contains {names}; rename the array of images to 'images'")
        name = "images" if "images" in names else names[0]
        if f"{name}.npy" not in archive.namelist():
            raise ValueError(f"{name!r} in it is not an array")
        with archive.open(f"{name}.npy") as packed, temporary_copy(given) as copy:
            shutil.copyfileobj(packed, copy, 1 << 20)
            return kept(copy, given)


def check_images(dtype: np.dtype[Any], shape: Sequence[int], given: str) -> None:
    """Check that an array is uint8 [images, height, width] or [images, height, width, 1 or 3].

    Raises:
        InvalidInputError: it is not.
    """
    if dtype != np.uint8:
        raise InvalidInputError(f"{given} is {dtype}, images are uint8; {dtype_remedy(dtype)}")
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)) or 0 in shape[1:]:
        raise InvalidInputError(
            f"{given} has shape {list(shape)}; images are [images, height, width] (grey) or "
            f"[images, height, width, channels] with 1 or 3 channels{channels_remedy(shape)}"
        )
