"""The structure of PNG files (ISO/IEC 15948): chunks, and the size in the first of them."""

from __future__ import annotations

import struct

from partedvae.common.image_structure.structure import (
    BYTES_PER_PIXEL,
    SECONDS_PER_OBJECT,
    SECONDS_PER_PARSED_BYTE,
    ExcessiveImageError,
    Structure,
)

MAX_CHUNKS = 100_000
"""Encoders put at least 8 KiB of pixels into each."""
MAX_TEXT_BYTES = 1 << 20
"""What Pillow unpacks of one chunk of text or of a colour profile before it refuses it."""
MAX_PACKING = 1032
"""Factor by which deflate packs at most."""

_CHUNK = struct.Struct(">I4s")
_HEADER = struct.Struct(">IIBB")
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""By colour type."""
_PACKED = frozenset({b"iCCP", b"zTXt", b"iTXt"})
_TEXT = frozenset({b"tEXt", *_PACKED})
_EXIF_AS_TEXT = b"Raw profile type exif\0"
"""Keyword of text that has EXIF data as hexadecimal digits, as ImageMagick writes it."""

_SECONDS_PER_RAW_BYTE = 18e-9
_SECONDS_PER_PIXEL = 20e-9
_SECONDS_PER_TEXT_BYTE = 10e-9


def examine(content: bytes) -> Structure:
    """Return what the chunks of a PNG file say.

    Raises:
        ExcessiveImageError: it has too many chunks.
    """
    width = height = raw = 0
    chunks = headers = parsed = text = 0
    position, end = 8, len(content) - _CHUNK.size
    while position <= end:
        length, kind = _CHUNK.unpack_from(content, position)
        chunks += 1
        if chunks > MAX_CHUNKS:
            raise ExcessiveImageError(
                f"PNG file with more than {MAX_CHUNKS:,} chunks: save it again with another program"
            )
        if kind == b"IHDR":
            headers += 1
            if position + _CHUNK.size + _HEADER.size <= len(content):
                width, height, depth, colour = _HEADER.unpack_from(content, position + _CHUNK.size)
                raw = height * (1 + (width * depth * _CHANNELS.get(colour, 4) + 7) // 8)
        elif kind == b"IEND":
            break
        elif kind == b"eXIf":
            parsed += length
        elif kind in _TEXT:
            unpacked = min(MAX_TEXT_BYTES, MAX_PACKING * length) if kind in _PACKED else length
            text += unpacked
            if content.startswith(_EXIF_AS_TEXT, position + _CHUNK.size):
                parsed += unpacked // 2
        position += 12 + length
    pixels = width * height
    seconds = (
        raw * _SECONDS_PER_RAW_BYTE
        + pixels * _SECONDS_PER_PIXEL
        + text * _SECONDS_PER_TEXT_BYTE
        + parsed * SECONDS_PER_PARSED_BYTE
        + chunks * SECONDS_PER_OBJECT
    )
    # The last of several headers counts for Pillow, and the first for others.
    return Structure(
        width=width,
        height=height,
        seconds=seconds if headers <= 1 else None,
        memory=pixels * BYTES_PER_PIXEL + 2 * text,
    )
