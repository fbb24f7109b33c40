"""Plain routes of the map's data, so that it does not travel through the websocket, and browsers keep it.

Positions and colours are arrays of bytes; the pictures of points are those of `FeatureMap.images`.
"""

from __future__ import annotations

from fastapi import FastAPI
from starlette.responses import JSONResponse, PlainTextResponse, Response

from partedvae.serving.errors import InvalidInputError
from partedvae.serving.explore.context import Context
from partedvae.serving.explore.features.feature_map import FeatureMap
from partedvae.serving.explore.features.images import PointImage
from partedvae.serving.explore.features.jobs import MapKey
from partedvae.serving.explore.widgets import address

BYTES = "application/octet-stream"
_KEPT = {"cache-control": "private, max-age=86400, immutable"}
_NOT_KEPT = {"cache-control": "no-store"}


def positions_address(shown: FeatureMap, key: MapKey) -> str:
    """Return the URL of the positions of a projection."""
    return address("/map/positions", space=key.space, method=key.method, points=key.points, v=shown.version)


def colours_address(shown: FeatureMap, name: str) -> str:
    """Return the URL of the colours of the points."""
    return address("/map/colours", by=name, v=shown.version)


def image_address(shown: FeatureMap, point: int) -> str:
    """Return the URL of the picture of a point."""
    return address("/map/image", point=point, v=shown.version)


def add_map_routes(app: FastAPI, context: Context) -> None:
    """Add the routes to an application that shows a feature file; without one they answer 404."""
    shown = context.features
    if shown is None:
        return

    @app.get("/map/positions")
    async def positions(space: str, method: str, points: int = 0) -> Response:
        """Return float32 x and y of every point, little-endian, within [-1, 1], of a projection that is done."""
        try:
            projection = shown.projections.find(shown.projections.key(space, method, points))
        except InvalidInputError as error:
            return _refused(400, str(error))
        if projection is None or projection.positions is None:
            return _refused(404, "this projection is not computed; open the page of the map again")
        return Response(projection.positions.astype("<f4").tobytes(), media_type=BYTES, headers=_KEPT)

    @app.get("/map/colours")
    async def colours(by: str) -> Response:
        """Return a byte per point: the index of its colour, or its place in the scale from 0 to 254; 255 for none."""
        if by not in shown.colourings:
            return _refused(404, f"by is {by!r}; choose from {', '.join(shown.colourings)}")
        return Response(shown.colourings[by].codes.tobytes(), media_type=BYTES, headers=_KEPT)

    @app.get("/map/image")
    async def image(point: int) -> Response:
        """Return the picture of a point as PNG."""
        if refused := _check(shown, point):
            return refused
        (found,) = await shown.images([point], context.model)
        if not found.png:
            return _refused(404, found.reason)
        return Response(found.png, media_type="image/png", headers=_headers(found))

    @app.get("/map/point")
    async def describe(point: int) -> Response:
        """Return what is known of a point as lines of text, and which kind of picture there is."""
        if refused := _check(shown, point):
            return refused
        (found,) = await shown.images([point], context.model)
        return JSONResponse({"lines": shown.describe(point), "picture": found.kind}, headers=_headers(found))


def _headers(found: PointImage) -> dict[str, str]:
    return _KEPT if found.kind == "image" else _NOT_KEPT  # It may be read, or drawn, later.


def _check(shown: FeatureMap, point: int) -> Response | None:
    if 0 <= point < len(shown.table):
        return None
    return _refused(404, f"point is {point}; there are {len(shown.table):,} points")


def _refused(status: int, reason: str) -> Response:
    return PlainTextResponse(reason, status, headers=_NOT_KEPT)
