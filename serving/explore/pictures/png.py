"""Pictures as responses: PNG with what browsers may keep, and errors as text."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from fastapi import Request
from PIL import Image
from starlette.responses import PlainTextResponse, Response

from partedvae.common.image_decoding import from_pixels
from partedvae.errors import (
    DeadlineError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    PartedVAEError,
    UnavailableError,
)
from partedvae.grid import png_bytes
from partedvae.model_results import ModelDetails
from partedvae.results import ImageArray
from partedvae.serving.explore.model import ModelAccess

YEAR = 365 * 24 * 3600
MAX_SCALE = 32
"""Largest enlargement of a picture that is downloaded."""
MAX_PIXELS = 16 * 2**20
"""Pixels of the largest picture that is enlarged, or made of several images."""
Draw: TypeAlias = Callable[[], Image.Image]
"""Draws a picture of what the model has returned; called in a thread."""
_STATUS: tuple[tuple[type[PartedVAEError], int], ...] = (
    (InvalidRequestError, 400),
    (NotFoundError, 404),
    (OverloadedError, 429),
    (UnavailableError, 503),
    (DeadlineError, 504),
)


def fingerprint(details: ModelDetails) -> str:
    """Return a short text that differs between models and versions, for the parameter `m` of URLs."""
    files = "".join(file.sha256 for file in details.manifest.files)
    return hashlib.sha256(f"{details.name} {details.version} {files}".encode()).hexdigest()[:12]


def known_details(model: ModelAccess) -> ModelDetails:
    """Return what is known of a model.

    Raises:
        UnavailableError: it has not answered yet.
    """
    if model.details is None:
        raise UnavailableError(model.problem or f"{model.where} has not answered yet")
    return model.details


def tiled(images: ImageArray, columns: int) -> Image.Image:
    """Return images [count, height, width, channels] as one picture without gaps, row by row."""
    count, height, width, channels = images.shape
    columns = min(columns, count)
    made = Image.new("L" if channels == 1 else "RGB", (columns * width, -(-count // columns) * height))
    for i, pixels in enumerate(images):
        made.paste(from_pixels(pixels), (i % columns * width, i // columns * height))
    return made


def enlarged(image: Image.Image, scale: int) -> Image.Image:
    """Return a picture whose pixels are squares of `scale` pixels.

    Raises:
        InvalidRequestError: it would have more than `MAX_PIXELS`.
    """
    if scale == 1:
        return image
    width, height = image.width * scale, image.height * scale
    if width * height > MAX_PIXELS:
        raise InvalidRequestError(
            f"scale={scale} makes {width:,} x {height:,} pixels, which are more than {MAX_PIXELS:,}; lower it"
        )
    return image.resize((width, height), Image.Resampling.NEAREST)


async def respond(request: Request, model: ModelAccess, make: Callable[[], Awaitable[Draw]]) -> Response:
    """Return a picture, or the error of making it.

    Browsers keep it if the URL has the fingerprint of the model (`m`), and the server has not replaced the model
    meanwhile. `download` is the name of a file.
    """
    try:
        draw = await make()
        content = await asyncio.to_thread(lambda: png_bytes(draw()))
    except PartedVAEError as error:
        status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
        return PlainTextResponse(str(error), status, {"cache-control": "no-store"})
    keeps = await _is_of_model(request.query_params.get("m"), model)
    headers = {"cache-control": f"private, max-age={YEAR}, immutable" if keeps else "no-store"}
    if name := request.query_params.get("download"):
        headers["content-disposition"] = attachment(name)
    return Response(content, media_type="image/png", headers=headers)


async def _is_of_model(expected: str | None, model: ModelAccess) -> bool:
    """Return whether a picture that was just made is of the model with a fingerprint.

    The server is asked again: that it has replaced the model is known some seconds later only, and pictures of the new
    model would be kept as those of the old one.
    """
    if expected != fingerprint(known_details(model)):
        return False
    now = await model.ask()
    return now is not None and fingerprint(now) == expected


def attachment(name: str) -> str:
    """Return the header that lets browsers write a PNG file of about this name."""
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in name)[:80]
    return f'attachment; filename="{safe}.png"'
