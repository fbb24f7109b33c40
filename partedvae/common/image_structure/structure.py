"""What the structure of an image file says about decoding it, before a decoder sees it."""

from __future__ import annotations

from dataclasses import dataclass


class ExcessiveImageError(ValueError):
    """A file whose structure no useful image has, and that would keep a decoder busy; the message has the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """Size and cost of an image, without its pixels having been decoded."""

    width: int
    """Pixels per row; 0 if the header cannot be read."""
    height: int
    """Rows; 0 if the header cannot be read."""
    seconds: float | None
    """Upper bound of the decoding time on a slow processor; None where the structure does not bound it."""
    memory: int
    """Upper bound of the bytes that decoding allocates, besides the file itself, where the structure is what the
    decoder finds."""

    @property
    def pixels(self) -> int:
        """The number of pixels."""
        return self.width * self.height


BYTES_PER_PIXEL = 18
"""Memory per pixel while an image is decoded and made opaque: Pillow has 4 bytes per pixel and image and holds up to
four (the decoded one, its copy with alpha, the opaque one, the converted one) and a mask."""
OPAQUE_BYTES_PER_PIXEL = 10
"""The same for formats without transparency."""
SECONDS_PER_OBJECT = 10e-6
"""Time for which Pillow handles a segment or a chunk of a file, in Python."""
SECONDS_PER_PARSED_BYTE = 6e-7
"""Time per byte of what Pillow parses in Python: EXIF directories, Photoshop resources, quantization tables."""
