"""Image files for tests."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

from PIL import Image


def file_of(image: Image.Image, fmt: str = "PNG", **options: Any) -> bytes:
    """Encode an image as a file."""
    file = io.BytesIO()
    image.save(file, format=fmt, **options)
    return file.getvalue()


def heic_of(image: Image.Image, **options: Any) -> bytes:
    """Encode an image as a lossless HEIC file, equal within one grey level."""
    from pillow_heif import from_pillow

    file = io.BytesIO()
    from_pillow(image).save(file, quality=-1, chroma=444, **options)
    return file.getvalue()


def noise(width: int = 40, height: int = 30, mode: str = "L") -> Image.Image:
    """Return an image of noise, which no format compresses well."""
    return Image.effect_noise((width, height), 60).convert(mode)


def png_bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """Return a small PNG file whose header promises a huge image."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0" * 1000))]
    packed = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + packed
