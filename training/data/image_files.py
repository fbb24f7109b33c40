"""Images in files, decoded to tensors by `partedvae.common.image_decoding`, as in serving."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from partedvae.common.cpus import available_cpus
from partedvae.common.file_names import in_one_line
from partedvae.common.fit import DEFAULT_FIT, Fit
from partedvae.common.image_decoding import (
    DamagedImageError,
    fit_image,
    is_grey,
    load_pixels,
    open_image,
    upright_size,
)
from partedvae.common.image_formats import UnsupportedImageError
from partedvae.common.image_structure import ExcessiveImageError, examine
from partedvae.training.data.dataset import DataError


class ImageFiles:
    """Images in files, decoded in threads on access.

    Decoding a JPEG file of 218x178 takes about 1 ms per thread. Only the names are kept in memory.
    """

    memory = "files that are decoded on access"

    def __init__(
        self,
        names: Sequence[str],
        read: Callable[[str], bytes],
        size: tuple[int, int, int],
        fit: Fit = DEFAULT_FIT,
    ) -> None:
        """Create the images without reading a file.

        Args:
            names: names of the files.
            read: returns the bytes of a file by its name; called from several threads.
            size: height, width and channels of the decoded images.
            fit: how images of another shape are fitted to it.
        """
        self._names = names
        self._read = read
        self._size = size
        self._fit = fit
        self._pool = ThreadPoolExecutor(max_workers=available_cpus(), thread_name_prefix="partedvae-data")

    @property
    def shape(self) -> tuple[int, ...]:
        """Count, height, width, channels."""
        return (len(self._names), *self._size)

    def __len__(self) -> int:
        """Count the images."""
        return len(self._names)

    def __getitem__(self, indices: Tensor) -> UInt8[Tensor, "batch height width channels"]:
        """Return the images of an index tensor, in its order.

        Raises:
            DataError: a file is missing or damaged.
        """
        pixels = np.empty((len(indices), *self._size), np.uint8)

        def fill(position: int, index: int) -> None:
            name = self._names[index]
            pixels[position] = decode_image(name, self._read(name), self._size, self._fit)

        for _ in self._pool.map(fill, range(len(indices)), indices.tolist()):
            pass
        return torch.from_numpy(pixels)


def read_header(name: str, file: IO[bytes]) -> tuple[int, int, bool]:
    """Return height, width and whether the image is stored as grey, from the header of a file.

    Args:
        name: name of the file, for the error message.
        file: the opened file.

    Raises:
        DataError: the file has a format that is not supported, or its header is damaged.
    """
    try:
        image = open_image(file)
        return *upright_size(image), is_grey(image)
    except (UnsupportedImageError, DamagedImageError) as error:
        raise DataError(_unreadable(name, error)) from error


def decode_image(name: str, content: bytes, size: tuple[int, int, int], fit: Fit = DEFAULT_FIT) -> NDArray[np.uint8]:
    """Decode an image file to uint8 [height, width, channels].

    Args:
        name: name of the file, for the error message.
        content: its bytes.
        size: height, width and channels of the result.
        fit: how an image of another shape is fitted to it.

    Raises:
        DataError: the file has a format that is not supported, or it is damaged.
    """
    try:
        examine(content)
        return fit_image(load_pixels(open_image(io.BytesIO(content))), size, fit)
    except (UnsupportedImageError, DamagedImageError, ExcessiveImageError) as error:
        raise DataError(_unreadable(name, error)) from error


def find_faults(names: Sequence[str], read: Callable[[str], bytes]) -> list[str]:
    """Read and decode files in threads, and return the message of each that cannot be used, in order.

    Args:
        names: names of the files.
        read: returns the bytes of a file by its name, or raises DataError; called from several threads.
    """

    def fault(name: str) -> str | None:
        try:
            decode_image(name, read(name), (1, 1, 1))
        except DataError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(max_workers=available_cpus(), thread_name_prefix="partedvae-data") as pool:
        return [found for found in pool.map(fault, names) if found is not None]


def _unreadable(name: str, error: Exception) -> str:
    return f"{in_one_line(name)} cannot be read as an image: {error}; replace it, or remove it from the folder"
