"""Pictures as responses: PNG with what browsers may keep, and errors as text."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

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
_STATUS: tuple[tuple[type[PartedVAEError], int], ...] = (
    (InvalidRequestError, 400),
    (NotFoundError, 404),
    (OverloadedError, 429),
    (UnavailableError, 503),
    (DeadlineError, 504),
)


def fingerprint(details: ModelDetails) -> str:
    """Return a short text that differs between models and versions, for the parameter `m` of addresses."""
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
    """Return a picture whose pixels are squares of `scale` pixels."""
    return image if scale == 1 else image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


async def respond(request: Request, model: ModelAccess, make: Callable[[], Awaitable[Image.Image]]) -> Response:
    """Return a picture, or the error of making it.

    Browsers keep it if the address has the fingerprint of the model (`m`). `download` is the name of a file.
    """
    try:
        made = await make()
        known = fingerprint(known_details(model))
    except PartedVAEError as error:
        status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
        return PlainTextResponse(str(error), status, {"cache-control": "no-store"})
    keeps = request.query_params.get("m") == known
    headers = {"cache-control": f"private, max-age={YEAR}, immutable" if keeps else "no-store"}
    if name := request.query_params.get("download"):
        headers["content-disposition"] = attachment(name)
    return Response(png_bytes(made), media_type="image/png", headers=headers)


def attachment(name: str) -> str:
    """Return the header that lets browsers write a PNG file of about this name."""
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in name)[:80]
    return f'attachment; filename="{safe}.png"'
