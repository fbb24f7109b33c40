"""The structure of BMP files: the header, which has the size and the compression."""

from __future__ import annotations

import struct

from partedvae.common.image_structure.structure import BYTES_PER_PIXEL, Structure

_UNPACKED = (0, 3)
"""Compressions that have the pixels as they are; Pillow unpacks run lengths in Python."""
_OLD_HEADER_BYTES = 12
_SECONDS_PER_PIXEL = 20e-9
_SECONDS = 20e-3
"""For the palette of up to 65,536 colours."""


def examine(content: bytes) -> Structure:
    """Return what the header of a BMP file says."""
    width = height = 0
    compression = 0
    if len(content) >= 34:
        (header_bytes,) = struct.unpack_from("<I", content, 14)
        if header_bytes == _OLD_HEADER_BYTES:
            width, height = struct.unpack_from("<HH", content, 18)
        else:
            width, height, _, _, compression = struct.unpack_from("<iiHHI", content, 18)
            width, height = abs(width), abs(height)  # Rows from the top have a negative height.
    pixels = width * height
    seconds = _SECONDS + pixels * _SECONDS_PER_PIXEL if compression in _UNPACKED else None
    return Structure(width=width, height=height, seconds=seconds, memory=pixels * BYTES_PER_PIXEL)
