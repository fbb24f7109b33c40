"""Tests of `partedvae.common.image_structure`."""

from __future__ import annotations

import io
import random
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from partedvae.common.image_formats import UnsupportedImageError
from partedvae.common.image_structure import ExcessiveImageError, examine
from tests.serving.hostile_files import (
    bmp_of_runs,
    gif_of_comments,
    jpeg_of_scans,
    jpeg_segment,
    jpeg_with,
    png_chunk,
    png_of_chunks,
    tiff_of,
    tiff_of_strips,
)
from tests.serving.pictures import file_of, heic_of, noise, png_bomb

EXIF = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"
AGAIN = "save it again with another program"


def files() -> dict[str, bytes]:
    """Return a file of each format."""
    picture = noise(64, 50, "RGB")
    return {
        "PNG": file_of(picture),
        "JPEG": file_of(picture, "JPEG"),
        "progressive JPEG": file_of(picture, "JPEG", progressive=True),
        "WebP": file_of(picture, "WEBP"),
        "lossless WebP": file_of(picture, "WEBP", lossless=True),
        "extended WebP": file_of(picture, "WEBP", exif=EXIF),
        "BMP": file_of(picture, "BMP"),
        "GIF": file_of(picture, "GIF", comment=b"a comment"),
        "TIFF": file_of(picture, "TIFF"),
    }


@pytest.mark.parametrize("name", files())
def test_size_of_each_format(name: str) -> None:
    """Is that of Pillow, and the time is known for formats that are decoded in threads."""
    structure = examine(files()[name])
    assert (structure.width, structure.height, structure.pixels) == (64, 50, 3200)
    assert (structure.seconds is None) == (name in ("GIF", "TIFF"))
    assert structure.memory >= 3200 * 10
    if structure.seconds is not None:
        assert structure.seconds < 0.01


def test_size_of_heic() -> None:
    """Is at most that of the image, which is padded to whole blocks; the memory is that of the padded one."""
    structure = examine(heic_of(noise(640, 500, "RGB")))
    assert 640 - 64 < structure.width <= 640
    assert 500 - 64 < structure.height <= 500
    assert structure.memory >= 640 * 512 * 40
    assert structure.seconds is None


def test_rows_from_the_top_of_a_bmp() -> None:
    """Have a negative height, and old headers have sizes of 16 bits."""
    whole = file_of(noise(64, 50), "BMP")
    turned = whole[:22] + struct.pack("<i", -50) + whole[26:]
    assert examine(turned).height == 50
    old = whole[:14] + struct.pack("<IHHHH", 12, 64, 50, 1, 24) + b"\0" * 100
    assert (examine(old).width, examine(old).height) == (64, 50)


def test_the_frame_of_a_gif_counts() -> None:
    """Pillow makes the image as large as its first frame, whatever the screen is."""
    whole = bytearray(file_of(noise(64, 50), "GIF"))
    whole[6:10] = struct.pack("<HH", 1, 1)
    assert examine(bytes(whole)).pixels == 3200
    assert Image.open(io.BytesIO(bytes(whole))).size == (64, 50)


def test_a_large_image_is_known_by_its_header() -> None:
    assert examine(png_bomb(60_000, 50_000)).pixels == 3_000_000_000
    assert examine(tiff_of([(256, 4, 1, 70_000), (257, 4, 1, 50_000)])).pixels == 3_500_000_000


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (jpeg_of_scans(101), f"JPEG file with more than 100 scans: {AGAIN}"),
        (jpeg_with(jpeg_segment(0xFE, b"") * 2000), f"JPEG file with more than 2,000 segments: {AGAIN}"),
        (jpeg_with(b"\xff\xd0" * 2000), f"JPEG file with more than 2,000 segments: {AGAIN}"),
        (jpeg_with(jpeg_segment(0xE2, b"\0" * 65_533) * 1100), f"JPEG file with more than 64 MiB of metadata: {AGAIN}"),
        (jpeg_with(jpeg_segment(0xE1, EXIF) * 65), f"JPEG file with more than 64 EXIF segments: {AGAIN}"),
        (
            jpeg_with(jpeg_segment(0xFE, b"") + b"\0" * 70_000),
            f"JPEG file with more than 65,536 bytes between its segments: {AGAIN}",
        ),
        (
            b"\xff\xd8" + jpeg_segment(0xFE, b"") + b"\0" * 70_000,
            f"JPEG file with more than 65,536 bytes between its segments: {AGAIN}",
        ),
        (
            jpeg_with(b"\xff" * 70_000),
            f"JPEG file with more than 65,536 bytes between its segments: {AGAIN}",
        ),
        (png_of_chunks(4, 3, png_chunk(b"IDAT") * 100_000), f"PNG file with more than 100,000 chunks: {AGAIN}"),
        (png_of_chunks(4, 3, png_chunk(b"teSt") * 100_000), f"PNG file with more than 100,000 chunks: {AGAIN}"),
        (gif_of_comments(100_001), f"GIF file with more than 100,000 blocks before its first frame: {AGAIN}"),
        (
            file_of(noise(), "GIF")[:13] + b"\0" * 101_000,
            f"GIF file with more than 100,000 blocks before its first frame: {AGAIN}",
        ),
        (
            b"RIFF\xff\xff\xff\xffWEBP" + (b"ANMF" + bytes(4)) * 100_001,
            "WebP file with more than 100,000 chunks: send its first frame as a file of its own",
        ),
        (
            tiff_of([(tag, 4, 1, 1) for tag in range(5000)]),
            f"TIFF file with 5,000 tags, above the limit of 4,096: {AGAIN}",
        ),
        (
            tiff_of_strips(10, 10, 21),
            f"TIFF file with 21 strips or tiles for 10x10 pixels, which need 2: {AGAIN}",
        ),
        (
            b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, 1 << 40),
            f"TIFF file with 1,099,511,627,776 tags, above the limit of 4,096: {AGAIN}",
        ),
    ],
)
def test_excessive_files(file: bytes, message: str) -> None:
    """The message has the limit and a remedy."""
    with pytest.raises(ExcessiveImageError) as caught:
        examine(file)
    assert str(caught.value) == message


def test_common_files_are_not_excessive() -> None:
    """Profiles, EXIF data, thumbnails, many scans, many strips."""
    for file in (
        jpeg_of_scans(100),
        jpeg_with(b"".join(jpeg_segment(0xE2, b"ICC_PROFILE\0" + b"\0" * 65_000) for _ in range(255))),
        jpeg_with(jpeg_segment(0xE1, EXIF) * 2 + b"\xff" * 100),
        png_of_chunks(4, 3, png_chunk(b"tEXt", b"key\0value") * 1000),
        gif_of_comments(10_000),
        tiff_of_strips(10, 10, 2),
    ):
        assert examine(file).pixels > 0


@pytest.mark.parametrize(
    "file",
    [
        jpeg_of_scans(100, 1000, 1000),
        jpeg_with(jpeg_segment(0xED, b"Photoshop 3.0\0" + b"8BIM\0\1\0\0\0\0\0\0" * 5000) * 20),
        jpeg_with(jpeg_segment(0xDB, (b"\0" + b"\1" * 64) * 1000) * 10),
        png_of_chunks(3000, 3000, depth=16, colour=6),
        png_of_chunks(4, 3, png_chunk(b"IDAT") * 50_000),
        png_of_chunks(4, 3, png_chunk(b"zTXt", b"k\0\0" + zlib.compress(b"x" * 1_000_000)) * 60),
        png_of_chunks(4, 3, png_chunk(b"eXIf", b"\0" * 10_000_000)),
        file_of(noise(4000, 3000), "JPEG"),
    ],
)
def test_costly_files_are_known_to_be(file: bytes) -> None:
    """Their time is above that of a file which a server decodes in a thread."""
    seconds = examine(file).seconds
    assert seconds is not None
    assert seconds > 0.1


def test_the_time_is_unknown_where_decoders_may_differ() -> None:
    """Two headers, arithmetic coding, animations, run lengths, or tables for each block."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 3, 8, 0, 0, 0, 0))
    arithmetic = file_of(noise(), "JPEG").replace(b"\xff\xc0\x00\x0b", b"\xff\xc9\x00\x0b")
    frame = jpeg_segment(0xC0, struct.pack(">BHHBBBB", 8, 1, 1, 1, 1, 0x11, 0))
    animated = file_of(noise(), "WEBP", save_all=True, append_images=[noise()])
    for file in (
        png_of_chunks(4, 3, header),
        arithmetic,
        jpeg_with(frame),
        animated,
        bmp_of_runs(20, 10),
        file_of(noise(400, 300), "WEBP", lossless=True),
    ):
        assert examine(file).seconds is None


@pytest.mark.parametrize("whole", [*files().values(), heic_of(noise(64, 50))], ids=[*files(), "HEIC"])
def test_damaged_files_are_left_to_the_decoder(whole: bytes) -> None:
    """Truncated or changed anywhere, they raise nothing but the errors of this package."""
    for length in range(16, len(whole), max(1, len(whole) // 200)):
        examine(whole[:length])
    changes = random.Random(0)
    for _ in range(2000):
        data = bytearray(whole)
        for _ in range(changes.randint(1, 8)):
            data[changes.randrange(min(len(data), 400))] = changes.randrange(256)
        try:
            structure = examine(bytes(data))
        except (ExcessiveImageError, UnsupportedImageError):
            continue
        assert structure.pixels >= 0
        assert structure.memory >= 0


@pytest.mark.parametrize("start", [1 << 40, (1 << 63) - 1, (1 << 64) - 1])
def test_offsets_beyond_the_file(start: int) -> None:
    """Of BigTIFF have 64 bits."""
    assert examine(b"II+\0" + struct.pack("<HHQQ", 8, 0, start, 1)).pixels == 0


def test_it_needs_no_pillow() -> None:
    """The client examines files where Pillow is not installed."""
    folder = Path(__file__).parents[3] / "partedvae" / "common"
    for path in (*folder.glob("image_structure/*.py"), folder / "image_formats.py"):
        assert "PIL" not in path.read_text().split()
