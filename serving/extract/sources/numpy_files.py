"""NumPy files of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from partedvae.image_arrays import channels_remedy, dtype_remedy
from partedvae.results import ImageArray
from partedvae.serving.errors import InvalidInputError


def load_array(path: Path) -> ImageArray:
    """Return the images of an .npy file, memory-mapped, or of an .npz file, whichever it is by its first bytes.

    Raises:
        InvalidInputError: it is damaged, or has no array of images.
        OSError: it cannot be read.
    """
    try:
        with path.open("rb") as file:  # NumPy leaves an archive open that it cannot read.
            is_archive = file.read(2) == b"PK"
            file.seek(0)
            array = _image_array(np.load(file, allow_pickle=False)) if is_archive else None
        if array is None:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # zipfile, its decompressors and NumPy's reading of headers raise anything.
        raise InvalidInputError(f"{path} cannot be read as a NumPy file: {error}") from error
    check_images(array.dtype, array.shape, path)
    return array


def _image_array(arrays: np.lib.npyio.NpzFile) -> ImageArray:
    """Return the array of images of an .npz file: `images`, or the only one."""
    with arrays:
        if "images" not in arrays and len(arrays.files) != 1:
            raise ValueError(f"it contains {arrays.files}; rename the array of images to 'images'")
        name = "images" if "images" in arrays else arrays.files[0]
        images: object = arrays[name]
        if not isinstance(images, np.ndarray):
            raise ValueError(f"{name!r} in it is not an array")
        return images


def check_images(dtype: np.dtype[Any], shape: Sequence[int], path: Path) -> None:
    """Check that an array is uint8 [images, height, width] or [images, height, width, 1 or 3].

    Raises:
        InvalidInputError: it is not.
    """
    if dtype != np.uint8:
        raise InvalidInputError(f"{path} is {dtype}, images are uint8; {dtype_remedy(dtype)}")
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)) or 0 in shape[1:]:
        raise InvalidInputError(
            f"{path} has shape {list(shape)}; images are [images, height, width] (grey) or "
            f"[images, height, width, channels] with 1 or 3 channels{channels_remedy(shape)}"
        )
