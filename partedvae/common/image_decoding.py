"""Decoding of image files for training and serving, so that a model is served the same pixels as it was trained on.

Rules, in this order:
1. Files are PNG, JPEG or WebP. The EXIF orientation is applied; an animation is reduced to its first frame;
   colour profiles are ignored.
2. 16-bit grey is scaled to 8 bits; 16-bit colour is truncated to 8 bits. Palettes and 1-bit images are expanded.
   Images of 32 bits per pixel are refused, because they do not say which value is white.
3. Transparent images are composed over black, the background of the data sets.
4. Grey for a colour model is repeated three times. Colour for a grey model becomes ITU-R 601 luma (Pillow's "L").
5. Another size is resized to the model's, without keeping the aspect ratio, with Pillow's bilinear filter, which
   averages over all source pixels when it reduces.

The client applies the same rules to images that it shrinks before it sends them: the model gets the same pixels.

Needs Pillow.
"""

from __future__ import annotations

from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

EXIF_ORIENTATION = 0x0112

# First bytes of other formats, which the message names.
_UNSUPPORTED = {
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"\x93NUMPY": "a NumPy array",
    b"%PDF": "PDF",
}
_SIGNATURE_BYTES = 12


class UnsupportedImageError(ValueError):
    """A file of another format; the message names it, without a remedy."""


class DamagedImageError(ValueError):
    """A PNG, JPEG or WebP file that cannot be decoded; the message has the reason, without a remedy."""


def open_image(file: IO[bytes]) -> ImageFile:
    """Read the header of an image file; the pixels are decoded by `load_pixels`.

    Raises:
        UnsupportedImageError: the file is not PNG, JPEG or WebP.
        DamagedImageError: its header is damaged.
    """
    start = file.read(_SIGNATURE_BYTES)
    file.seek(0)
    plugin = _plugin_for(start)
    try:
        # Not Image.open, which has its own limit for large images and warns above it.
        return plugin(file)
    except Exception as error:  # Pillow raises anything from OSError to SyntaxError for damaged files.
        raise DamagedImageError(f"damaged {plugin.format} file: {error}") from error


def load_pixels(image: ImageFile) -> Image.Image:
    """Decode an opened image to 8 bits, upright and opaque; its mode is any that Pillow can convert.

    Raises:
        UnsupportedImageError: it has 32 bits per pixel.
        DamagedImageError: the file is damaged.
    """
    check_mode(image)
    try:
        image.load()
        return opaque(ImageOps.exif_transpose(image))
    except Exception as error:  # As above.
        raise DamagedImageError(f"damaged {image.format} file: {error}") from error


def check_mode(image: Image.Image) -> None:
    """Check that the values of an image have a known range.

    Raises:
        UnsupportedImageError: its mode is "F", or "I" unless it is a PNG file, which has 16 bits then.
    """
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        kind = "floating-point numbers" if image.mode == "F" else "integers of 32 bits"
        raise UnsupportedImageError(f"mode {image.mode} ({kind}) does not say which value is white")


def opaque(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits and compose transparent images over black; the result can be converted by `fit`."""
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode == "LAB":
        return image.convert("RGB")  # Pillow has no direct conversion to "L".
    if image.has_transparency_data:
        # Pillow converts "La", grey with premultiplied alpha, to "LA" only.
        colours = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        black = Image.new("RGB", image.size)
        black.paste(colours, mask=colours.getchannel("A"))
        return black
    return image


def from_pixels(pixels: NDArray[np.uint8]) -> Image.Image:
    """Wrap uint8 [height, width] or [height, width, channels], grey or RGB."""
    return Image.fromarray(pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)


def fit(image: Image.Image, size: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return an image's pixels as uint8 [height, width, channels] of `size`, converted and resized as needed."""
    height, width, channels = size
    mode = "L" if channels == 1 else "RGB"
    image = image if image.mode == mode else image.convert(mode)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(height, width, channels)


def upright_size(image: ImageFile) -> tuple[int, int]:
    """Return height and width of an opened image after its EXIF orientation has been applied.

    Raises:
        DamagedImageError: its EXIF data are damaged.
    """
    try:
        rotated = image.getexif().get(EXIF_ORIENTATION, 1) >= 5
    except Exception as error:  # As above.
        raise DamagedImageError(f"damaged {image.format} file: {error}") from error
    return image.size if rotated else image.size[::-1]


def is_grey(image: ImageFile) -> bool:
    """Return whether an opened image is stored without colour."""
    return image.mode in ("1", "L", "LA") or image.mode.startswith("I")


def _plugin_for(start: bytes) -> type[ImageFile]:
    """Return the decoder of a file by its first bytes."""
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImageFile
    if start.startswith(b"\xff\xd8\xff"):
        return JpegImageFile
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return WebPImageFile
    if not start:
        raise UnsupportedImageError("no bytes")
    for signature, name in _UNSUPPORTED.items():
        if start.startswith(signature):
            raise UnsupportedImageError(f"{name} is not supported")
    raise UnsupportedImageError(f"not an image (it starts with {start[:8]!r})")
