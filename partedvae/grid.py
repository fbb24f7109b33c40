"""One picture of many images in labelled rows. Needs Pillow."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from partedvae.common.atomic_write import atomic_write
from partedvae.results import ImageArray

CELL = 64
"""Pixels: smaller images are enlarged by an integer factor to at least this."""
GAP, MARGIN = 4, 12
TEXT_SIZE, TITLE_SIZE = 16, 18
INK, PAPER, FRAME = (20, 20, 20), (255, 255, 255), (200, 200, 200)

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """One row of a grid."""

    images: ImageArray
    """uint8 [images, height, width, channels] with 1 or 3 channels; the same size in all rows."""
    label: str = ""
    """Text to the left of the row."""
    captions: Sequence[str] = ()
    """Text above each image; empty for none."""


def wrapped(images: ImageArray, captions: Sequence[str], columns: int | None = None) -> list[Row]:
    """Return images with captions in rows.

    Args:
        images: uint8 [images, height, width, channels].
        captions: a text per image.
        columns: images per row; as many as rows by default.
    """
    width = columns or math.ceil(math.sqrt(len(images)))
    return [
        Row(images=images[first : first + width], captions=captions[first : first + width])
        for first in range(0, len(images), width)
    ]


def labelled_grid(rows: Sequence[Row], title: str = "") -> Image.Image:
    """Return an RGB picture of rows of images with their labels and captions, below a title."""
    text, heading = ImageFont.load_default(TEXT_SIZE), ImageFont.load_default(TITLE_SIZE)
    height, width = rows[0].images.shape[1:3]
    scale = max(1, math.ceil(CELL / max(height, width)))
    captions = [caption for row in rows for caption in row.captions]
    cell_width = max(width * scale, *(_width(caption, text) for caption in captions), 0)
    cell_height = height * scale + (TEXT_SIZE + GAP if captions else 0)
    label_width = max(_width(row.label, text) for row in rows)
    left = MARGIN + (label_width + MARGIN if label_width else 0)
    top = MARGIN + (TITLE_SIZE + MARGIN if title else 0)
    columns = max(len(row.images) for row in rows)
    picture_width = max(left + columns * (cell_width + GAP) - GAP, MARGIN + _width(title, heading)) + MARGIN
    picture = Image.new("RGB", (picture_width, top + len(rows) * (cell_height + GAP) - GAP + MARGIN), PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((MARGIN, MARGIN), title, fill=INK, font=heading)
    for k, row in enumerate(rows):
        y = top + k * (cell_height + GAP)
        middle = y + cell_height - height * scale // 2
        draw.text((left - MARGIN, middle), row.label, fill=INK, font=text, anchor="rm")
        for i, pixels in enumerate(row.images):
            x = left + i * (cell_width + GAP)
            if row.captions:
                draw.text((x + cell_width // 2, y), row.captions[i], fill=INK, font=text, anchor="ma")
            tile = _tile(pixels, scale)
            corner = (x + (cell_width - tile.width) // 2, y + cell_height - tile.height)
            picture.paste(tile, corner)
            draw.rectangle((*corner, corner[0] + tile.width - 1, corner[1] + tile.height - 1), outline=FRAME)
    return picture


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture to a file, atomically; the suffix chooses the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        picture.save(temporary, format=Image.registered_extensions()[path.suffix.lower()])


def png_bytes(picture: Image.Image) -> bytes:
    """Return a picture as the content of a PNG file."""
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()


def _tile(pixels: ImageArray, scale: int) -> Image.Image:
    grey = pixels.shape[-1] == 1
    image = Image.fromarray(pixels[..., 0] if grey else pixels).convert("RGB")
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


def _width(text: str, font: Font) -> int:
    return math.ceil(font.getlength(text))
