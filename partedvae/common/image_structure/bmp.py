"""The structure of BMP files: the header, which has the size and the compression."""

from __future__ import annotations

import struct

from partedvae.common.image_structure.structure import BYTES_PER_PIXEL, Structure

_UNPACKED = (0, 3)
"""Compressions that have the pixels as they are; Pillow unpacks run lengths in Python."""
_OLD_HEADER_BYTES = 12
_SECONDS_PER_PIXEL = 20e-9
_SECONDS_PER_COLOUR = 5e-7
"""Of the palette, which Pillow reads in Python."""
_MAX_COLOURS = 1 << 16
"""More are refused by Pillow."""
_PALETTE_BITS = 8
"""Most bits per pixel of images with a palette that has all colours of that many bits by default."""


def examine(content: bytes) -> Structure:
    """Return what the header of a BMP file says."""
    width = height = 0
    compression = colours = 0
    if len(content) >= 50:
        (header_bytes,) = struct.unpack_from("<I", content, 14)
        if header_bytes == _OLD_HEADER_BYTES:
            width, height = struct.unpack_from("<HH", content, 18)
        else:
            width, height, _, _, compression = struct.unpack_from("<iiHHI", content, 18)
            (colours,) = struct.unpack_from("<I", content, 46)
            width, height = abs(width), abs(height)  # Rows from the top have a negative height.
    pixels = width * height
    seconds = pixels * _SECONDS_PER_PIXEL + min(colours or 1 << _PALETTE_BITS, _MAX_COLOURS) * _SECONDS_PER_COLOUR
    return Structure(
        width=width,
        height=height,
        seconds=seconds if compression in _UNPACKED else None,
        memory=pixels * BYTES_PER_PIXEL,
    )
