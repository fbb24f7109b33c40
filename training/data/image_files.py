"""Image files as pixels, by the same rules as serving: what is trained on is what will be asked for.

EXIF orientation is applied, 16-bit grey is scaled to 8 bits, transparent pixels are laid over black, and another size
is resized without keeping the aspect ratio, bilinearly over all source pixels.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from partedvae.training.data.cpus import available_cpus
from partedvae.training.data.dataset import DataError

FORMATS = ("PNG", "JPEG", "WEBP")
"""What is accepted, in Pillow's names."""


class PictureFiles:
    """Images in files, decoded in threads when asked for.

    Memory: nothing but the names. About 1 ms a JPEG of 218x178 and thread.
    """

    memory = "files that are decoded when asked for"

    def __init__(self, names: Sequence[str], read: Callable[[str], bytes], size: tuple[int, int, int]) -> None:
        """Plan images.

        Args:
            names: of the files.
            read: name in, bytes out; called from several threads.
            size: height, width and channels that the images get.
        """
        self._names = names
        self._read = read
        self._size = size
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
            pixels[position] = decode_picture(name, self._read(name), self._size)

        for _ in self._pool.map(fill, range(len(indices)), indices.tolist()):
            pass
        return torch.from_numpy(pixels)


def read_header(name: str, content: IO[bytes]) -> tuple[int, int, bool]:
    """Return height, width and whether it is stored as grey, from an image file's header.

    Raises:
        DataError: it is no PNG, JPEG or WebP file.
    """
    try:
        with Image.open(content, formats=FORMATS) as image:
            # Orientations 5 to 8 are lying on a side.
            width, height = image.size[::-1] if image.getexif().get(0x0112, 1) >= 5 else image.size
            return height, width, image.mode in ("1", "L", "LA") or image.mode.startswith("I")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(_unreadable(name, error)) from error


def decode_picture(name: str, content: bytes, size: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Decode an image file to uint8 [height, width, channels] of a size.

    Raises:
        DataError: it is no PNG, JPEG or WebP file, or damaged.
    """
    height, width, channels = size
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            image.load()
            upright = _opaque(ImageOps.exif_transpose(image)).convert("L" if channels == 1 else "RGB")
    except Exception as error:  # Pillow's decoders raise anything from OSError to SyntaxError on damaged bytes.
        raise DataError(_unreadable(name, error)) from error
    if upright.size != (width, height):
        upright = upright.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(upright).reshape(height, width, channels)


def _unreadable(name: str, error: Exception) -> str:
    # Pillow names the file object when it knows no format, which tells nobody anything.
    reason = "it is none, or damaged at its beginning" if "cannot identify" in str(error) else str(error)
    return f"{name} cannot be read as a PNG, JPEG or WebP image: {reason}; replace it or take it out of the folder"


def _opaque(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        black = Image.new("RGB", image.size)
        black.paste(colours, mask=colours.getchannel("A"))
        return black
    return image
