"""The structure of GIF files (GIF89a): the extensions before the first frame, and its size."""

from __future__ import annotations

import struct

from partedvae.common.image_structure.structure import BYTES_PER_PIXEL, ExcessiveImageError, Structure

MAX_BLOCKS = 100_000
"""Blocks of up to 255 bytes before the first frame, and bytes that are none, which Pillow reads one by one."""


def examine(content: bytes) -> Structure:
    """Return what precedes the pixels of a GIF file.

    Raises:
        ExcessiveImageError: that is too much.
    """
    if len(content) < 13:
        return Structure(width=0, height=0, seconds=None, memory=0)
    width, height, flags = struct.unpack_from("<HHB", content, 6)
    position = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    blocks = 0
    while position < len(content) and content[position] not in b",;":
        blocks += 1
        if content[position] == ord("!"):
            position += 2
            while position < len(content) and (length := content[position]) and blocks <= MAX_BLOCKS:
                blocks += 1
                position += 1 + length
        position += 1
        if blocks > MAX_BLOCKS:
            raise ExcessiveImageError(
                f"GIF file with more than {MAX_BLOCKS:,} blocks before its first frame: "
                "save it again with another program"
            )
    if content[position : position + 1] == b"," and position + 9 <= len(content):
        left, top, frame_width, frame_height = struct.unpack_from("<HHHH", content, position + 1)
        width, height = max(width, left + frame_width), max(height, top + frame_height)
    return Structure(width=width, height=height, seconds=None, memory=width * height * BYTES_PER_PIXEL)
