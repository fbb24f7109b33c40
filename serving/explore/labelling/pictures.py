"""Pictures of the images that are labelled."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Query
from PIL import Image
from starlette.responses import PlainTextResponse, Response

from partedvae.common.image_decoding import load_pixels, open_image
from partedvae.common.regular_files import read_file
from partedvae.grid import png_bytes
from partedvae.serving.explore.labelling.workspace import Workspace

LONGEST = 1024
"""Pixels of the longer side; larger images are made smaller."""
MAX_PIXELS = 200_000_000
"""Largest image that is decoded."""
AT_ONCE = 2
"""Images that are decoded at the same time, since a large one takes more than half a gigabyte."""


def add_image_route(app: FastAPI, workspace: Workspace) -> None:
    """Add the route of the images, which reads no other files than those of the folder that were listed."""
    decoding = asyncio.Semaphore(AT_ONCE)

    @app.get("/label/image.png")
    async def image(n: Annotated[int, Query(ge=0)], v: str = "") -> Response:
        """Return the image number n of the folder as PNG; browsers store it if v is the version of the workspace."""
        headers = {"cache-control": "no-store"}
        if n >= len(workspace.names):
            return PlainTextResponse(
                f"there are {len(workspace.names)} images, and none has the number {n}", 404, headers
            )
        try:
            async with decoding:
                content = await asyncio.to_thread(picture_of, workspace.folder / workspace.names[n])
        except (OSError, ValueError) as error:
            return PlainTextResponse(str(error), 422, headers)
        if v == workspace.version:
            headers = {"cache-control": "private, max-age=60"}
        return Response(content, media_type="image/png", headers=headers)


def picture_of(path: Path) -> bytes:
    """Return an image as PNG, not larger than a screen shows.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not an image, or too large.
    """
    opened = open_image(io.BytesIO(read_file(path)))
    if opened.width * opened.height > MAX_PIXELS:
        raise ValueError(f"it has {opened.width}x{opened.height} pixels, too many to be shown")
    opened.draft(None, (LONGEST, LONGEST))  # JPEG is decoded at a smaller size.
    made = load_pixels(opened)
    if made.mode not in ("L", "RGB"):
        made = made.convert("RGB")
    if max(made.size) > LONGEST:
        made.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    return png_bytes(made)
