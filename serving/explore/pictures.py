"""Plain routes for pictures, so that they are cached by the browser and do not travel through the websocket.

They are functions of their address: the same address gives the same picture from the same model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

import numpy as np
from fastapi import FastAPI, Query, Request
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from PIL import Image
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response

from partedvae.class_choices import class_combinations, class_label
from partedvae.common.image_decoding import from_pixels
from partedvae.errors import (
    DeadlineError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    PartedVAEError,
    UnavailableError,
)
from partedvae.grid import Row, labelled_grid, png_bytes
from partedvae.model_results import ModelDetails
from partedvae.results import ImageArray
from partedvae.serving.explore.context import Context
from partedvae.serving.explore.model import ModelAccess
from partedvae.v1.manifest_pb2 import Manifest

MAX_COUNT = 100
"""Images per row."""
MAX_IMAGES = 2_500
"""Images of one picture."""
YEAR = 365 * 24 * 3600
_STATUS: tuple[tuple[type[PartedVAEError], int], ...] = (
    (InvalidRequestError, 400),
    (NotFoundError, 404),
    (OverloadedError, 429),
    (UnavailableError, 503),
    (DeadlineError, 504),
)


def fingerprint(details: ModelDetails) -> str:
    """Return a short text that differs between models and versions, for the parameter `m` of addresses."""
    manifest = details.manifest
    files = "".join(file.sha256 for file in manifest.files)
    return hashlib.sha256(f"{details.name} {details.version} {files}".encode()).hexdigest()[:12]


def add_picture_routes(app: FastAPI, context: Context) -> None:
    """Add the routes to an application; without a model they answer 404."""
    model = context.model
    if model is None:
        return

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        texts = [f"{item['loc'][-1]}: {item['msg']}" for item in error.errors()]
        return PlainTextResponse("; ".join(texts), 400)

    @app.exception_handler(HTTPException)
    async def _plain(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return await http_exception_handler(request, error)

    @app.get("/generate.png")
    async def generate(
        request: Request,
        classes: Annotated[list[str], Query(alias="class", default_factory=list, max_length=16)],
        seed: Annotated[int, Query(ge=0, lt=2**63)] = 0,
        count: Annotated[int, Query(ge=1, le=MAX_COUNT)] = 1,
        columns: Annotated[int, Query(ge=1, le=MAX_COUNT)] = MAX_COUNT,
        each: str = "",
        labelled: bool = False,
    ) -> Response:
        """Return new images side by side.

        `class` is NAME or factor=NAME; classes of one factor are rows, those of several are combined. All classes of
        the factor `each` are rows too. `labelled` adds the classes to the picture.
        """

        async def make() -> Image.Image:
            details = _details(model)
            wanted = [*classes, *(f"{each}={name}" for name in _class_names(each, details.manifest))]
            rows = class_combinations(wanted, details.manifest) or [{}]
            if count * len(rows) > MAX_IMAGES:
                raise InvalidRequestError(f"{count} x {len(rows)} images are more than {MAX_IMAGES}; request fewer")
            made = [await model.checked(model.call.generate(count, classes=row, seed=seed)) for row in rows]
            if not labelled:
                return tiled(np.concatenate([result.images for result in made]), count if len(rows) > 1 else columns)
            labels = [class_label(row, details.manifest) for row in rows]
            title = f"{details.name} version {details.version}, seed {seed}"
            images = [result.images for result in made]
            return labelled_grid([Row(images=i, label=text) for i, text in zip(images, labels, strict=True)], title)

        return await picture(request, model, make)


def tiled(images: ImageArray, columns: int) -> Image.Image:
    """Return images [count, height, width, channels] as one picture without gaps, row by row."""
    count, height, width, _ = images.shape
    columns = min(columns, count)
    made = Image.new("L" if images.shape[-1] == 1 else "RGB", (columns * width, -(-count // columns) * height))
    for i, pixels in enumerate(images):
        made.paste(from_pixels(pixels), (i % columns * width, i // columns * height))
    return made


async def picture(request: Request, model: ModelAccess, make: Callable[[], Awaitable[Image.Image]]) -> Response:
    """Return a picture as PNG, or the error of making it as text.

    Browsers keep it where the address has the fingerprint of the model, and ask again otherwise.
    """
    try:
        made = await make()
        known = fingerprint(_details(model))
    except PartedVAEError as error:
        status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
        return PlainTextResponse(str(error), status, {"cache-control": "no-store"})
    keeps = request.query_params.get("m") == known
    caching = f"private, max-age={YEAR}, immutable" if keeps else "no-store"
    headers = {"cache-control": caching}
    if name := request.query_params.get("download"):
        safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)[:80]
        headers["content-disposition"] = f'attachment; filename="{safe.encode("ascii", "replace").decode()}.png"'
    return Response(png_bytes(made), media_type="image/png", headers=headers)


def _class_names(factor: str, manifest: Manifest) -> Sequence[str]:
    """Return the classes of a factor; none for no factor."""
    known = {entry.name: entry.class_names for entry in manifest.factors}
    if factor and factor not in known:
        raise InvalidRequestError(f"the model has no factor {factor!r}; its factors are {', '.join(known)}")
    return known.get(factor, ())


def _details(model: ModelAccess) -> ModelDetails:
    if model.details is None:
        raise UnavailableError(model.problem or f"{model.where} has not answered yet")
    return model.details
