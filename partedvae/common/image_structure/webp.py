"""The structure of WebP files (RFC 9649): chunks, and the size in the first of them."""

from __future__ import annotations

import struct

from partedvae.common.image_structure.structure import SECONDS_PER_PARSED_BYTE, ExcessiveImageError, Structure

MAX_CHUNKS = 100_000
"""An animation has up to three per frame."""

_CHUNK = struct.Struct("<4sI")
_BYTES_PER_PIXEL = 28
"""Pillow decodes to a canvas, of which libwebp keeps two and the frame, before it copies it; see `BYTES_PER_PIXEL`."""
MAX_CODE_GROUPS = 2600
"""Groups of prefix codes that libwebp writes at most into a lossless image, which may have one for each 4x4 pixels."""
_BYTES_PER_CODE_GROUP = 16 << 10
"""Tables of a group."""
_MIN_CODE_GROUP_BITS = 10
_SECONDS_PER_PIXEL = 40e-9
_SECONDS_PER_CODE_GROUP = 20e-6


def examine(content: bytes) -> Structure:
    """Return what the chunks of a WebP file say.

    Raises:
        ExcessiveImageError: it has too many chunks.
    """
    width = height = chunks = parsed = lossless = 0
    is_still = True
    position, end = 12, len(content) - _CHUNK.size
    while position <= end:
        kind, length = _CHUNK.unpack_from(content, position)
        body = content[position + 8 : position + 18]
        chunks += 1
        if chunks > MAX_CHUNKS:
            raise ExcessiveImageError(
                f"WebP file with more than {MAX_CHUNKS:,} chunks: send its first frame as a file of its own"
            )
        size = _size(kind, body)
        width, height = max(width, size[0]), max(height, size[1])
        if kind in (b"VP8L", b"ALPH"):  # Transparency is packed like a lossless image.
            lossless += length
        elif kind in (b"ANIM", b"ANMF"):
            is_still = False
        elif kind in (b"EXIF", b"XMP "):
            parsed += length
        position += 8 + length + length % 2
    pixels = width * height
    groups = min(pixels // 16 + 1, 8 * lossless // _MIN_CODE_GROUP_BITS + 1) if lossless else 0
    known = is_still and chunks < 100 and groups <= MAX_CODE_GROUPS
    seconds = pixels * _SECONDS_PER_PIXEL + groups * _SECONDS_PER_CODE_GROUP + parsed * SECONDS_PER_PARSED_BYTE
    return Structure(
        width=width,
        height=height,
        seconds=seconds if known else None,
        memory=pixels * _BYTES_PER_PIXEL + min(groups, MAX_CODE_GROUPS) * _BYTES_PER_CODE_GROUP + parsed,
    )


def _size(kind: bytes, body: bytes) -> tuple[int, int]:
    """Return width and height in a chunk, 0 if there are none."""
    if len(body) < 10:
        return 0, 0
    if kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return 0, 0
