"""The size in HEIC files (ISO/IEC 23008-12): the largest of the `ispe` properties, which each image and tile has."""

from __future__ import annotations

import struct

from partedvae.common.image_structure.structure import Structure

MAX_HEADER_BYTES = 1 << 20
"""Where the properties are looked for; they precede the pixels."""
_PROPERTY = struct.Struct(">4sIII")
_BYTES_PER_PIXEL = 48
"""The pictures that a decoder keeps, the planes, their conversion to RGB, and `BYTES_PER_PIXEL`."""


def examine(content: bytes) -> Structure:
    """Return the size of the largest image in a HEIC file."""
    width = height = 0
    position = content.find(b"ispe", 0, MAX_HEADER_BYTES)
    while position >= 0 and position + _PROPERTY.size <= len(content):
        _, _, image_width, image_height = _PROPERTY.unpack_from(content, position)
        if image_width * image_height > width * height:
            width, height = image_width, image_height
        position = content.find(b"ispe", position + 4, MAX_HEADER_BYTES)
    return Structure(width=width, height=height, seconds=None, memory=width * height * _BYTES_PER_PIXEL)
