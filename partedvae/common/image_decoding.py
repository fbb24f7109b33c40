"""Decoding of image files for training and serving, so that a model is served the same pixels as it was trained on.

Rules, in this order:
1. Files are PNG, JPEG, WebP, BMP, TIFF or GIF, recognised by their first bytes (`partedvae.common.image_formats`), or
   HEIC where the package pillow-heif is installed. The EXIF orientation is applied; animations and files of several
   pages are reduced to the first; colour profiles are ignored.
2. 16-bit grey is scaled to 8 bits; 16-bit colour is truncated to 8 bits. Palettes and 1-bit images are expanded.
   Images of 32 bits per pixel, as scientific TIFF files have, are refused: they do not say which value is white.
3. Transparent images are composed over black, the background of the data sets.
4. Grey for a colour model is repeated three times. Colour for a grey model becomes ITU-R 601 luma (Pillow's "L").
5. Another size is resized to the model's with Pillow's bilinear filter, which averages over all source pixels when it
   reduces. Another shape is stretched, padded or cropped (`partedvae.common.fit`), as the run and the bundle say.

The client applies the same rules to images that it shrinks before it sends them: the model gets the same pixels.

Needs Pillow.
"""

from __future__ import annotations

from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from partedvae.common.fit import Fit
from partedvae.common.image_formats import SIGNATURE_BYTES, Format, UnsupportedImageError, format_of
from partedvae.common.image_structure import ExcessiveImageError

EXIF_ORIENTATION = 0x0112
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By the value of the EXIF tag."""


_PLUGINS: dict[Format, type[ImageFile]] = {
    "PNG": PngImageFile,
    "JPEG": JpegImageFile,
    "WebP": WebPImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
    "GIF": GifImageFile,
}
_MODES = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"})
"""Pillow's modes of at most 8 bits per channel that can be converted to grey and to RGB; 16-bit grey is `I;16…`."""


class DamagedImageError(ValueError):
    """A file of a supported format that cannot be decoded; the message has the reason, without a remedy."""


def open_image(file: IO[bytes]) -> ImageFile:
    """Read the header of an image file; the pixels are decoded by `load_pixels`.

    Raises:
        UnsupportedImageError: the file has another format, or pixels of a kind whose range is not known.
        DamagedImageError: its header is damaged.
    """
    start = file.read(SIGNATURE_BYTES)
    file.seek(0)
    found = format_of(start)
    plugin = _heic_plugin() if found == "HEIC" else _PLUGINS[found]
    try:
        # Not Image.open, which has its own limit for large images and warns above it.
        image = plugin(file)
    except Exception as error:  # Pillow raises anything from OSError to SyntaxError for damaged files.
        raise DamagedImageError(f"damaged {plugin.format} file: {_in_one_line(error)}") from error
    check_mode(image)
    return image


def load_pixels(image: ImageFile) -> Image.Image:
    """Decode an opened image to 8 bits, upright and opaque; its mode is any that Pillow can convert.

    Raises:
        DamagedImageError: the file is damaged.
        ExcessiveImageError: the memory is not sufficient.
    """
    try:
        image.load()
        return opaque(_upright(image))
    except MemoryError as error:
        raise ExcessiveImageError(
            f"{image.format} file of {image.width}x{image.height} pixels needs more memory than is available: "
            "make the image smaller"
        ) from error
    except Exception as error:  # As above.
        raise DamagedImageError(f"damaged {image.format} file: {_in_one_line(error)}") from error


def check_mode(image: Image.Image) -> None:
    """Check that an image can be converted to 8 bits.

    Raises:
        UnsupportedImageError: the range of its values is not known (floating-point numbers, 32-bit integers), or
            Pillow cannot convert its mode.
    """
    if image.mode in _MODES or image.mode.startswith("I;16"):
        return
    kind = {"F": "floating-point numbers", "I": "integers of 32 bits"}.get(image.mode)
    if kind:
        raise UnsupportedImageError(f"mode {image.mode} ({kind}) does not say which value is white")
    raise UnsupportedImageError(f"Pillow's mode {image.mode} is not supported")


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; unlike ImageOps.exif_transpose, without a copy and without writing EXIF data."""
    transposition = _TRANSPOSITIONS.get(image.getexif().get(EXIF_ORIENTATION, 1))
    if transposition is not None:
        return image.transpose(transposition)
    # Pillow opens some GIF files as "L" and decodes them to "P"; a copy has the mode of the pixels.
    return image if image.im.mode == image.mode else image.copy()


def opaque(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits and compose transparent images over black, so that `fit_image` can convert them."""
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode in ("LAB", "HSV"):
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


def fit_image(image: Image.Image, size: tuple[int, int, int], fit: Fit) -> NDArray[np.uint8]:
    """Return an image's pixels, converted and resized as needed.

    Args:
        image: an opaque image; see `opaque`.
        size: height, width and channels of the result.
        fit: how an image of another shape is fitted. All are the same for an image of the shape of `size`.

    Returns:
        uint8 [height, width, channels].
    """
    height, width, channels = size
    mode = "L" if channels == 1 else "RGB"
    image = image if image.mode == mode else image.convert(mode)
    if image.size != (width, height):
        match fit:
            case "stretch":
                image = image.resize((width, height), Image.Resampling.BILINEAR)
            case "pad":
                image = _padded(image, width, height)
            case "crop":
                image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    # What NumPy does with an image, without asking it for its type and shape.
    return np.frombuffer(image.tobytes(), dtype=np.uint8).reshape(height, width, channels)


def _padded(image: Image.Image, width: int, height: int) -> Image.Image:
    """Return an image that is resized to fit inside, in the centre, over black."""
    scale = min(width / image.width, height / image.height)
    # A line is at least one pixel thick; ImageOps.pad rounds it to none, and returns a black image.
    inside = (max(1, round(scale * image.width)), max(1, round(scale * image.height)))
    padded = Image.new(image.mode, (width, height))
    padded.paste(image.resize(inside, Image.Resampling.BILINEAR), ((width - inside[0]) // 2, (height - inside[1]) // 2))
    return padded


def upright_size(image: ImageFile) -> tuple[int, int]:
    """Return height and width of an opened image after its EXIF orientation has been applied.

    Raises:
        DamagedImageError: its EXIF data are damaged.
    """
    try:
        rotated = image.getexif().get(EXIF_ORIENTATION, 1) >= 5
    except Exception as error:  # As above.
        raise DamagedImageError(f"damaged {image.format} file: {_in_one_line(error)}") from error
    return image.size if rotated else image.size[::-1]


def is_grey(image: ImageFile) -> bool:
    """Return whether an opened image is stored without colour."""
    return image.mode in ("1", "L", "LA") or image.mode.startswith("I")


def _heic_plugin() -> type[ImageFile]:
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise UnsupportedImageError("HEIC needs the package pillow-heif: pip install 'partedvae[heic]'") from error
    plugin: type[ImageFile] = HeifImageFile
    return plugin


def _in_one_line(error: Exception) -> str:
    """Return the message of an error; libheif's have line breaks."""
    return " ".join(str(error).split())
