"""The structure of TIFF files (TIFF 6.0, and BigTIFF): the first directory."""

from __future__ import annotations

import struct

from partedvae.common.image_structure.structure import BYTES_PER_PIXEL, ExcessiveImageError, Structure

MAX_ENTRIES = 4096
"""Tags of a directory."""
MAX_REPEATS = 10
"""How often strips or tiles may cover the image: once per sample, if each has a plane of its own."""

_WIDTH, _HEIGHT, _STRIP_OFFSETS, _ROWS_PER_STRIP = 256, 257, 273, 278
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS = 322, 323, 324
_USED = frozenset({_WIDTH, _HEIGHT, _STRIP_OFFSETS, _ROWS_PER_STRIP, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS})
_FORMATS = {1: "B", 3: "H", 4: "I", 16: "Q"}
"""Of unsigned numbers, by type."""


def examine(content: bytes) -> Structure:
    """Return what the first directory of a TIFF file says.

    Raises:
        ExcessiveImageError: it has too many tags, strips or tiles.
    """
    try:
        values, counts = _directory(content)
    except (struct.error, OverflowError):  # It is truncated, or its offsets of 64 bits are beyond any file.
        values, counts = {}, {}
    width, height = values.get(_WIDTH, 0), values.get(_HEIGHT, 0)
    if width and height:
        for offsets, columns, rows in (
            (_STRIP_OFFSETS, width, values.get(_ROWS_PER_STRIP, height)),
            (_TILE_OFFSETS, values.get(_TILE_WIDTH, width), values.get(_TILE_HEIGHT, height)),
        ):
            parts = -(-width // max(1, columns)) * -(-height // max(1, rows))
            if counts.get(offsets, 0) > MAX_REPEATS * parts:
                raise ExcessiveImageError(
                    f"TIFF file with {counts[offsets]:,} strips or tiles for {width}x{height} pixels, which need "
                    f"{parts:,}: save it again with another program"
                )
    return Structure(width=width, height=height, seconds=None, memory=width * height * BYTES_PER_PIXEL)


def _directory(content: bytes) -> tuple[dict[int, int], dict[int, int]]:
    """Return value and count of the tags that are used; a value that is not in the entry is missing."""
    order = "<" if content[:1] == b"I" else ">"
    if 43 in content[2:4]:
        (start,) = struct.unpack_from(order + "Q", content, 8)
        (entries,) = struct.unpack_from(order + "Q", content, start)
        entry, room, start = struct.Struct(order + "HHQ"), 8, start + 8
    else:
        (start,) = struct.unpack_from(order + "I", content, 4)
        (entries,) = struct.unpack_from(order + "H", content, start)
        entry, room, start = struct.Struct(order + "HHI"), 4, start + 2
    if entries > MAX_ENTRIES:
        raise ExcessiveImageError(
            f"TIFF file with {entries:,} tags, above the limit of {MAX_ENTRIES:,}: save it again with another program"
        )
    values: dict[int, int] = {}
    counts: dict[int, int] = {}
    for position in range(start, start + entries * (entry.size + room), entry.size + room):
        tag, kind, count = entry.unpack_from(content, position)
        if tag not in _USED or tag in counts:  # Pillow takes the first.
            continue
        counts[tag] = count
        number = _FORMATS.get(kind)
        if count == 1 and number and struct.calcsize(number) <= room:
            (values[tag],) = struct.unpack_from(order + number, content, position + entry.size)
    return values, counts
