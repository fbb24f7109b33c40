"""Small image files that keep decoders busy, or make them allocate much memory."""

from __future__ import annotations

import struct
import zlib

from PIL import Image

from tests.serving.pictures import file_of


def png_of_chunks(width: int, height: int, before: bytes = b"", *, depth: int = 8, colour: int = 0) -> bytes:
    """Return a black PNG file.

    Args:
        width: pixels per row.
        height: rows.
        before: chunks between the header and the pixels.
        depth: bits per channel.
        colour: colour type, 0 for grey.
    """
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    packer = zlib.compressobj(9)
    row = b"\0" * (1 + (width * channels * depth + 7) // 8)
    rows = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + before + png_chunk(b"IDAT", rows) + png_chunk(b"IEND")


def png_chunk(kind: bytes, data: bytes = b"") -> bytes:
    """Return a chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def jpeg_of_scans(scans: int, width: int = 64, height: int = 64) -> bytes:
    """Return a black progressive JPEG file whose last scan, of all pixels in some bytes, is repeated."""
    whole = file_of(Image.new("L", (width, height)), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    found = whole.count(b"\xff\xda")
    assert scans >= found
    return whole[:-2] + whole[last:-2] * (scans - found) + whole[-2:]


def jpeg_with(segments: bytes, width: int = 32, height: int = 24) -> bytes:
    """Return a JPEG file with bytes after its start."""
    whole = file_of(Image.effect_noise((width, height), 60), "JPEG")
    return whole[:2] + segments + whole[2:]


def jpeg_segment(marker: int, data: bytes) -> bytes:
    """Return a segment of a JPEG file."""
    return struct.pack(">BBH", 0xFF, marker, 2 + len(data)) + data


def jpeg_with_wrong_exif() -> bytes:
    """Return a JPEG file with EXIF data of which Pillow warns: a tag that has more bytes than the file."""
    tag = struct.pack("<HHHII", 1, 0x010F, 2, 1 << 20, 50)
    return jpeg_with(jpeg_segment(0xE1, b"Exif\0\0II*\0" + struct.pack("<I", 8) + tag + b"\0" * 4))


def bmp_of_runs(width: int, height: int) -> bytes:
    """Return a grey BMP file of run lengths, which Pillow unpacks pixel by pixel in Python."""
    run = bytes([255, 0x11])
    row = run * (width // 255) + bytes([width % 255, 0x11]) * (width % 255 > 0) + b"\0\0"
    pixels = row * height + b"\0\1"
    palette = b"".join(bytes([17 * level] * 3 + [0]) for level in range(16))
    offset = 14 + 40 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 4, 2, len(pixels), 2835, 2835, 16, 16)
    return struct.pack("<2sIHHI", b"BM", offset + len(pixels), 0, 0, offset) + header + palette + pixels


def gif_of_comments(blocks: int) -> bytes:
    """Return a GIF file with a comment of many blocks of one byte before its frame."""
    whole = file_of(Image.effect_noise((8, 6), 60), "GIF")
    frame = 13 + (3 << (whole[10] & 7) + 1)
    return whole[:frame] + b"!\xfe" + b"\1x" * blocks + b"\0" + whole[frame:]


def gif_of_two_palettes() -> bytes:
    """Return a GIF file with a palette of colours and a frame with one of greys: Pillow reports a mode it has not."""
    whole = file_of(Image.effect_noise((20, 10), 60), "GIF")
    frame = 13 + (3 << (whole[10] & 7) + 1)
    greys = b"".join(bytes([level] * 3) for level in range(256))
    screen = whole[:10] + b"\xf7" + whole[11:13] + bytes(range(256)) * 3
    return screen + whole[frame : frame + 9] + b"\x87" + greys + whole[frame + 10 :]


def tiff_of(entries: list[tuple[int, int, int, int]], rest: bytes = b"") -> bytes:
    """Return a TIFF file.

    Args:
        entries: tag, type, count and value, or position of the values.
        rest: what follows the directory.
    """
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + struct.pack("<I", 0) + rest


def tiff_of_strips(width: int, height: int, strips: int) -> bytes:
    """Return a grey TIFF file whose strips have half of the rows each, and the same pixels."""
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 277: 1, 278: max(1, height // 2)}
    count = len(tags) + 2
    lists = 8 + 2 + 12 * count + 4
    pixels = lists + 8 * strips
    entries = [(tag, 4, 1, value) for tag, value in tags.items()]
    entries += [(273, 4, strips, lists), (279, 4, strips, lists + 4 * strips)]
    half = width * max(1, height // 2)
    rest = struct.pack("<I", pixels) * strips + struct.pack("<I", half) * strips + b"\x80" * half
    return tiff_of(sorted(entries), rest)


def tiff_of_a_tile(width: int, height: int, side: int) -> bytes:
    """Return a grey TIFF file of a single packed tile of any size."""
    packed = zlib.compress(b"\0" * 1000)
    tags = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 277: 1, 322: side, 323: side, 325: len(packed)}
    position = 8 + 2 + 12 * (len(tags) + 1) + 4
    return tiff_of(sorted([(tag, 4, 1, value) for tag, value in tags.items()] + [(324, 4, 1, position)]), packed)
