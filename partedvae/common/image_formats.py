"""The formats of image files, recognised by their first bytes. Does not need Pillow."""

from __future__ import annotations

from typing import Literal

Format = Literal["PNG", "JPEG", "WebP", "BMP", "TIFF", "GIF", "HEIC"]

FORMATS = "PNG, JPEG, WebP, BMP, TIFF or GIF"
"""The formats that are always read, for messages."""
SIGNATURE_BYTES = 32
"""Bytes from which the format of a file is recognised."""

_SIGNATURES: dict[bytes, Format] = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"BM": "BMP",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00": "TIFF",
    b"MM\x00+": "TIFF",
}
# First bytes of other formats, which the message names.
_UNSUPPORTED = {
    b"\x93NUMPY": "a NumPy array",
    b"%PDF": "PDF",
    b"8BPS": "Photoshop",
    b"<svg": "SVG",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000",
    b"\x00\x00\x00\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"\x00\x00\x01\x00": "ICO",
    b"\x00\x05\x16\x07": "an AppleDouble file of macOS, which has no pixels,",
    b"version https://git-lfs": "a pointer of Git LFS, whose file is not downloaded,",
}
# The brand in bytes 8 to 12 of an ISO base media file.
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")


class UnsupportedImageError(ValueError):
    """A file of another format; the message names it, without a remedy."""


def format_of(start: bytes) -> Format:
    """Return the format of a file by its first bytes.

    Raises:
        UnsupportedImageError: it is not one of the formats that are read.
    """
    for signature, found in _SIGNATURES.items():
        if start.startswith(signature):
            return found
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WebP"
    if start[4:8] == b"ftyp" and start[8:12] in _HEIC_BRANDS:
        return "HEIC"
    if not start:
        raise UnsupportedImageError("no bytes")
    if start[4:8] == b"ftyp":
        raise UnsupportedImageError(f"{'AVIF' if start[8:12] in _AVIF_BRANDS else 'a video'} is not supported")
    if not any(start):
        raise UnsupportedImageError(
            "not an image (it starts with zeros, as a file does whose download was interrupted)"
        )
    for signature, name in _UNSUPPORTED.items():
        if start.startswith(signature):
            raise UnsupportedImageError(f"{name} is not supported")
    raise UnsupportedImageError(f"not an image (it starts with {start[:8]!r})")
