"""The size in HEIC files (ISO/IEC 23008-12): the largest of the `ispe` properties, which each image and tile has.

The image may be smaller by less than a block, to which an encoder has padded it.
"""

from __future__ import annotations

import struct

from partedvae.common.image_structure.structure import Structure

MAX_HEADER_BYTES = 1 << 20
"""Where the properties are looked for; they precede the pixels."""
MAX_PADDING = 63
"""Columns and rows of padding, as the largest blocks of HEVC have 64."""
_PROPERTY = struct.Struct(">4sIII")
_BYTES_PER_PIXEL = 48
"""The pictures that a decoder keeps, the planes, their conversion to RGB, and `BYTES_PER_PIXEL`."""


def examine(content: bytes) -> Structure:
    """Return the size of the largest image in a HEIC file, without what may be padding."""
    width = height = 0
    position = content.find(b"ispe", 0, MAX_HEADER_BYTES)
    while position >= 0 and position + _PROPERTY.size <= len(content):
        _, _, image_width, image_height = _PROPERTY.unpack_from(content, position)
        if image_width * image_height > width * height:
            width, height = image_width, image_height
        position = content.find(b"ispe", position + 4, MAX_HEADER_BYTES)
    return Structure(
        width=max(0, width - MAX_PADDING),
        height=max(0, height - MAX_PADDING),
        seconds=None,
        memory=width * height * _BYTES_PER_PIXEL,
    )
