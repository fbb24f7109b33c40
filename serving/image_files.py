"""Image files of a batch: examined and decoded by `partedvae.common`, with errors that name their position."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable

from PIL import Image

from partedvae.common.image_decoding import DamagedImageError, load_pixels, open_image
from partedvae.common.image_formats import FORMATS, UnsupportedImageError
from partedvae.common.image_structure import ExcessiveImageError, Structure, examine
from partedvae.serving.errors import ImageError


def examine_file(index: int, content: bytes) -> Structure:
    """Return what the structure of an image file says; its size has not been compared with any limit.

    Args:
        index: its position in the batch, for the error.
        content: its bytes.

    Raises:
        ImageError: it has another format, or its structure is excessive.
    """
    try:
        return examine(content)
    except UnsupportedImageError as error:
        raise ImageError(index, unsupported(error)) from error
    except ExcessiveImageError as error:
        raise ImageError(index, str(error)) from error


def decode_file(index: int, content: bytes, check_size: Callable[[int, int], None]) -> Image.Image:
    """Decode an image file that has been examined.

    Args:
        index: its position in the batch, for the error.
        content: its bytes.
        check_size: called with width and height before the pixels are decoded; its errors are raised.

    Returns:
        The image, upright and opaque, in any mode that Pillow can convert.

    Raises:
        ImageError: it cannot be decoded.
    """
    try:
        image = open_image(io.BytesIO(content))
        check_size(image.width, image.height)
        return load_pixels(image)
    except UnsupportedImageError as error:
        raise ImageError(index, unsupported(error)) from error
    except (DamagedImageError, ExcessiveImageError) as error:
        raise ImageError(index, str(error)) from error


def unsupported(reason: UnsupportedImageError | str) -> str:
    """Return the reason of an `ImageError` for a file of another format."""
    return f"{reason}: send a {FORMATS} file"


def silence_pillow() -> None:
    """Let Pillow write nothing to stderr: it warns of files that others have sent, whose errors are reported anyway."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").addHandler(logging.NullHandler())
