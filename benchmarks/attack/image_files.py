"""Small image files that are expensive to decode, for the attacks with pictures."""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Callable

from PIL import Image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SCAN, JPEG_END = b"\xff\xda", b"\xff\xd9"


def side_of(pixels: int) -> int:
    """Return the side of a square with at most so many pixels."""
    return math.isqrt(pixels)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    """Return an image as a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_chunk(kind: bytes, data: bytes = b"") -> bytes:
    """Return a chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *, before: bytes = b"", after: bytes = b"") -> bytes:
    """Return a black PNG of RGBA pixels, a thousandth of their size.

    Args:
        width: in pixels.
        height: in pixels.
        before: chunks before the pixels.
        after: chunks after the pixels.
    """
    compressor = zlib.compressobj(9)
    row = bytes(1 + 4 * width)
    rows = b"".join(compressor.compress(row) for _ in range(height)) + compressor.flush()
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0))
    return PNG_SIGNATURE + header + before + png_chunk(b"IDAT", rows) + after + png_chunk(b"IEND")


def large_pictures(pixels: int) -> list[bytes]:
    """Return small files of black images with nearly so many pixels, in all formats."""
    side = side_of(pixels)
    image = Image.new("RGB", (side, side))
    return [
        png(side, side),
        saved(image, "JPEG", progressive=True),
        saved(image, "WEBP", lossless=True, method=0),
        saved(image, "TIFF", compression="tiff_adobe_deflate"),
        saved(image.convert("P"), "GIF"),
        bmp_run_length(side, side),
        # Transparent pixels and a palette need a further copy each.
        saved(Image.new("LA", (side, side)), "PNG"),
        saved(Image.new("I;16", (side, side)), "PNG"),
    ]


def jpeg_with_scans(pixels: int, scans: int) -> bytes:
    """Return a progressive JPEG whose last scan is repeated: each scan visits all blocks of the image."""
    side = side_of(pixels)
    data = saved(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    start, end = data.rindex(JPEG_SCAN), data.rindex(JPEG_END)
    return data[:end] + data[start:end] * scans + JPEG_END


def jpeg_with_markers(marker: int, payload: bytes, size: int) -> bytes:
    """Return a JPEG with as many application segments as fit into a size.

    Args:
        marker: second byte of the marker, 0xE0 to 0xEF or 0xFE.
        payload: content of each segment.
        size: bytes of the file.
    """
    data = saved(Image.new("RGB", (16, 16)), "JPEG")
    segment = bytes([0xFF, marker]) + struct.pack(">H", 2 + len(payload)) + payload
    return data[:2] + segment * ((size - len(data)) // len(segment)) + data[2:]


def bmp_run_length(width: int, height: int) -> bytes:
    """Return a black BMP in run-length encoding, which Pillow decodes in Python."""
    row = b"\xff\0" * (width // 255) + bytes([width % 255, 0]) * bool(width % 255) + b"\0\0"
    pixels = row * height + b"\0\1"
    palette = bytes(4 * 256)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(pixels), 2835, 2835, 256, 0)
    offset = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(pixels), 0, 0, offset) + header + palette + pixels


def slow_pictures(pixels: int, size: int) -> dict[str, Callable[[], bytes]]:
    """Return functions that make files whose decoding takes long for their size, by what they are.

    Args:
        pixels: maximum pixels of an image.
        size: maximum bytes of a file.
    """
    side = side_of(pixels)
    frames = [Image.new("L", (64, 64), number % 256) for number in range(500)]
    return {
        "JPEG with 200,000 EXIF segments": lambda: jpeg_with_markers(0xE1, b"Exif\0\0" + bytes(30), size),
        "JPEG with 200,000 colour profile segments": lambda: jpeg_with_markers(
            0xE2, b"ICC_PROFILE\0\1\1" + bytes(24), size
        ),
        "JPEG with 500,000 comments": lambda: jpeg_with_markers(0xFE, bytes(10), size),
        "JPEG with Photoshop segments": lambda: jpeg_with_markers(0xED, b"Photoshop 3.0\0" + b"8BIM" + bytes(20), size),
        "PNG with 600,000 empty chunks": lambda: png(1, 1, before=png_chunk(b"prVt") * (size // 13)),
        "PNG with 600,000 empty chunks of pixels": lambda: png(1, 1, after=png_chunk(b"IDAT") * (size // 13)),
        "PNG with 300,000 texts": lambda: png(1, 1, before=png_chunk(b"tEXt", b"a\0b") * (size // 16)),
        "TIFF with a strip per row": lambda: saved(Image.new("L", (16, side_of(pixels))), "TIFF", strip_size=16),
        "TIFF of a single column": lambda: saved(
            Image.new("1", (1, min(pixels, 2_000_000))), "TIFF", compression="group4"
        ),
        "GIF of 500 frames": lambda: saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "PNG of 500 frames": lambda: saved(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        "WebP of 500 frames": lambda: saved(
            frames[0].convert("RGB"),
            "WEBP",
            save_all=True,
            append_images=[frame.convert("RGB") for frame in frames[1:]],
        ),
        "BMP in run-length encoding": lambda: bmp_run_length(side, side),
        "BMP of single pixels": lambda: bmp_of_single_pixels(size // 4),
    }


def bmp_of_single_pixels(count: int) -> bytes:
    """Return a BMP whose runs have one pixel each."""
    width = side_of(count)
    data = bmp_run_length(width, 1)
    offset = 14 + 40 + 4 * 256
    pixels = (b"\1\0" * width + b"\0\0") * width + b"\0\1"
    header = bytearray(data[:offset])
    struct.pack_into("<i", header, 14 + 8, width)
    struct.pack_into("<I", header, 14 + 20, len(pixels))
    struct.pack_into("<I", header, 2, offset + len(pixels))
    return bytes(header) + pixels
