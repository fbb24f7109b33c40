"""The structure of JPEG files (ITU-T T.81, annex B): segments until the first scan, and scans of a progressive file.

A progressive file repeats a scan over all pixels as often as it likes, each in a few bytes.
"""

from __future__ import annotations

import re

from partedvae.common.image_structure.structure import (
    OPAQUE_BYTES_PER_PIXEL,
    SECONDS_PER_OBJECT,
    SECONDS_PER_PARSED_BYTE,
    ExcessiveImageError,
    Structure,
)

MAX_SCANS = 100
"""Encoders write about ten; libtiff and djpeg have the same limit for files that are not trusted."""
MAX_SEGMENTS = 2000
"""A colour profile has up to 255, and a depth map of a phone some hundred."""
MAX_METADATA_BYTES = 64 << 20
MAX_EXIF_SEGMENTS = 64
"""Pillow joins them one by one. The standard allows one."""
MAX_STRAY_BYTES = 1 << 16
"""Bytes between segments, which Pillow skips one by one."""

_MARKER = re.compile(rb"\xff[^\x00\xff]")
_MARKER_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_WINDOW = 1 << 20
"""Bytes per search: one of a whole file would keep other threads waiting."""

_SEQUENTIAL, _PROGRESSIVE = (0xC0, 0xC1), 0xC2
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xDA)})
_SOS, _EOI, _APP1, _APP13, _DQT = 0xDA, 0xD9, 0xE1, 0xED, 0xDB

_SECONDS_PER_PIXEL = 16e-9
_SECONDS_PER_SCANNED_PIXEL = 8e-9
_COEFFICIENTS_PER_PIXEL = 8
"""Bytes of the coefficients that are kept of a file of several scans: two per pixel and component."""


def examine(content: bytes) -> Structure:
    """Return what the segments of a JPEG file say.

    Raises:
        ExcessiveImageError: it has too many segments, scans, or bytes that are no pixels.
    """
    width = height = components = 0
    frame: int | None = None
    segments = scans = stray = metadata = parsed = exif = 0
    known = True  # whether only a decoder of one kind can be meant
    position = 2
    while True:
        found = _find_marker(content, position, _MARKER_AFTER_SCAN if scans else _MARKER)
        if not scans:
            stray += max(0, found - position)
            if stray > MAX_STRAY_BYTES:
                raise ExcessiveImageError(
                    f"JPEG file with more than {MAX_STRAY_BYTES:,} bytes between its segments: {_REMEDY}"
                )
        if found == len(content):
            break
        segments += 1
        if segments > MAX_SEGMENTS:
            raise ExcessiveImageError(f"JPEG file with more than {MAX_SEGMENTS:,} segments: {_REMEDY}")
        marker = content[found + 1]
        position = found + 2
        if marker in _WITHOUT_LENGTH:
            if marker == _EOI and scans:
                break
            continue
        length = int.from_bytes(content[position : position + 2])
        body = content[position + 2 : position + min(length, 32)]
        position += max(2, length)
        if marker == _SOS:
            scans += 1
            if scans > MAX_SCANS:
                raise ExcessiveImageError(f"JPEG file with more than {MAX_SCANS} scans: {_REMEDY}")
            if frame in _SEQUENTIAL and body[:1] == bytes([components]):
                break  # All components in one scan: the decoder ends after it.
        elif marker in _FRAMES:
            known = known and frame is None and len(body) >= 6
            frame = marker
            if len(body) >= 6:
                height, width = int.from_bytes(body[1:3]), int.from_bytes(body[3:5])
                components = body[5]
        else:
            metadata += length
            if metadata > MAX_METADATA_BYTES:
                raise ExcessiveImageError(
                    f"JPEG file with more than {MAX_METADATA_BYTES >> 20} MiB of metadata: {_REMEDY}"
                )
            is_exif = marker == _APP1 and body.startswith(b"Exif\0")
            exif += is_exif
            if exif > MAX_EXIF_SEGMENTS:
                raise ExcessiveImageError(f"JPEG file with more than {MAX_EXIF_SEGMENTS} EXIF segments: {_REMEDY}")
            if is_exif or marker in (_APP13, _DQT):
                parsed += length
    known = known and (frame is None or frame in _SEQUENTIAL or frame == _PROGRESSIVE)
    pixels = width * height
    multiple = scans > 1 or frame == _PROGRESSIVE
    seconds = (
        pixels * (_SECONDS_PER_PIXEL + (scans * _SECONDS_PER_SCANNED_PIXEL if multiple else 0))
        + segments * SECONDS_PER_OBJECT
        + (parsed + stray) * SECONDS_PER_PARSED_BYTE
    )
    memory = pixels * (OPAQUE_BYTES_PER_PIXEL + (_COEFFICIENTS_PER_PIXEL if multiple else 0)) + 2 * metadata
    return Structure(width=width, height=height, seconds=seconds if known else None, memory=memory)


_REMEDY = "save it again with another program"


def _find_marker(content: bytes, start: int, pattern: re.Pattern[bytes]) -> int:
    """Return the position of the next marker, or the length of the file if there is none."""
    while start < len(content) - 1:
        found = pattern.search(content, start, start + _WINDOW)
        if found:
            return found.start()
        start += _WINDOW - 1  # A marker has two bytes.
    return len(content)
