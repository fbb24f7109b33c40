"""Examines the structure of image files before they are decoded: their size, and what decoding them can cost.

A few kilobytes can keep a decoder busy for minutes, or make it allocate gigabytes. Each format has a module, which
looks at headers only, in microseconds to a few milliseconds. Damaged files are not refused here: the decoder does it.
Does not need Pillow.
"""

from __future__ import annotations

from collections.abc import Callable

from partedvae.common.image_formats import SIGNATURE_BYTES, Format, format_of
from partedvae.common.image_structure import bmp, gif, heic, jpeg, png, tiff, webp
from partedvae.common.image_structure.structure import ExcessiveImageError, Structure

__all__ = ["ExcessiveImageError", "Structure", "examine"]

_EXAMINERS: dict[Format, Callable[[bytes], Structure]] = {
    "PNG": png.examine,
    "JPEG": jpeg.examine,
    "WebP": webp.examine,
    "BMP": bmp.examine,
    "TIFF": tiff.examine,
    "GIF": gif.examine,
    "HEIC": heic.examine,
}


def examine(content: bytes) -> Structure:
    """Return what the structure of a file says.

    Raises:
        UnsupportedImageError: it has another format.
        ExcessiveImageError: it has more scans, segments, chunks or the like than any useful image.
    """
    return _EXAMINERS[format_of(content[:SIGNATURE_BYTES])](content)
