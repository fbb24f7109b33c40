"""The routes: decoded latents, strips along each dimension, and generated images.

A picture is a function of its URL: the same URL gives the same picture from the same model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import PlainTextResponse, Response

from partedvae.class_choices import class_by_factor, class_combinations, class_label, classes_by_factor
from partedvae.common.image_decoding import from_pixels
from partedvae.errors import InvalidRequestError
from partedvae.grid import Row, labelled_grid
from partedvae.serving.explore.context import Context
from partedvae.serving.explore.model import ModelAccess
from partedvae.serving.explore.pictures.latents import from_text, strip_rows, u_dim
from partedvae.serving.explore.pictures.png import MAX_PIXELS, MAX_SCALE, Draw, enlarged, known_details, respond, tiled
from partedvae.v1.manifest_pb2 import Manifest

MAX_COUNT = 100
"""Images per row."""
MAX_IMAGES = 2_500
"""Images of one picture."""

Classes = Annotated[list[str], Query(alias="class", default_factory=list, max_length=64)]
Scale = Annotated[int, Query(ge=1, le=MAX_SCALE)]


def add_picture_routes(app: FastAPI, context: Context) -> None:
    """Add the routes to an application; without a model there are none."""

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return PlainTextResponse("; ".join(f"{item['loc'][-1]}: {item['msg']}" for item in error.errors()), 400)

    if context.model is not None:
        _add_latent_routes(app, context.model)
        _add_generate_route(app, context.model)


def _add_latent_routes(app: FastAPI, model: ModelAccess) -> None:
    @app.get("/decode.png")
    async def decode(request: Request, u: str = "", z: str = "", scale: Scale = 1) -> Response:
        """Return the image of u and z: numbers with commas, u of all factors in the model's order."""

        async def make() -> Draw:
            manifest = known_details(model).manifest
            latents = from_text("u", u, u_dim(manifest)), from_text("z", z, manifest.z_dim)
            images = await model.checked(model.call.decode(*latents))
            return lambda: enlarged(from_pixels(images[0]), scale)

        return await respond(request, model, make)

    @app.get("/strips.png")
    async def strips(
        request: Request,
        classes: Classes,
        u: str = "",
        z: str = "",
        along: str = "z",
        factor: str = "",
        scale: Scale = 1,
    ) -> Response:
        """Return one row of images per dimension of z or of a factor's u, or one row of its classes."""

        async def make() -> Draw:
            manifest = known_details(model).manifest
            latents = from_text("u", u, u_dim(manifest)), from_text("z", z, manifest.z_dim)
            modes = class_by_factor(classes, manifest)
            columns, *rows = strip_rows(manifest, *latents, modes, along=along, factor=factor)
            images = await model.checked(model.call.decode(*rows))
            return lambda: enlarged(tiled(images, columns), scale)

        return await respond(request, model, make)


def _add_generate_route(app: FastAPI, model: ModelAccess) -> None:
    @app.get("/generate.png")
    async def generate(
        request: Request,
        classes: Classes,
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

        async def make() -> Draw:
            details = known_details(model)
            wanted = [*classes, *(f"{each}={name}" for name in _class_names(each, details.manifest))]
            wanted = list(dict.fromkeys(wanted))
            # Before they are combined: of several factors, they may be millions.
            total = math.prod(map(len, classes_by_factor(wanted, details.manifest).values()))
            if count * total > MAX_IMAGES:
                raise InvalidRequestError(f"{count} x {total:,} images are more than {MAX_IMAGES:,}; request fewer")
            image = details.manifest.image
            if count * total * image.width * image.height > MAX_PIXELS:
                raise InvalidRequestError(
                    f"{count} x {total:,} images of {image.width} x {image.height} pixels have more than "
                    f"{MAX_PIXELS:,} pixels; request fewer"
                )
            rows = class_combinations(wanted, details.manifest) or [{}]
            made = [await model.checked(model.call.generate(count, classes=row, seed=seed)) for row in rows]
            images = [result.images for result in made]
            if not labelled:
                return lambda: tiled(np.concatenate(images), count if len(rows) > 1 else columns)
            labels = [class_label(row, details.manifest) for row in rows]
            title = f"{details.name} version {details.version}, seed {seed}"
            drawn = [Row(images=i, label=text) for i, text in zip(images, labels, strict=True)]
            return lambda: labelled_grid(drawn, title)

        return await respond(request, model, make)


def _class_names(factor: str, manifest: Manifest) -> Sequence[str]:
    """Return the classes of a factor; none for no factor."""
    known = {entry.name: entry.class_names for entry in manifest.factors}
    if factor and factor not in known:
        raise InvalidRequestError(f"the model has no factor {factor!r}; its factors are {', '.join(known)}")
    return known.get(factor, ())
