"""The plain route for the figures of runs."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.responses import FileResponse, PlainTextResponse, Response

from partedvae.serving.explore.context import Context
from partedvae.serving.explore.run_folder import figure_file

ROUTE = "/run-figure.png"


def add_run_figure_route(app: FastAPI, context: Context) -> None:
    """Add the route to an application; without --runs it answers 404."""
    folder = context.runs
    if folder is None:
        return

    # Not a coroutine: FastAPI runs it in a thread, where it may read the folder.
    @app.get(ROUTE)
    def run_figure(run: str, name: str) -> Response:
        """Return the PNG file `name` of a run; browsers ask whether it has been drawn again."""
        file = figure_file(folder, run, name)
        if file is None:
            return PlainTextResponse("there is no such figure", 404, {"cache-control": "no-store"})
        return FileResponse(file, media_type="image/png", headers={"cache-control": "private, no-cache"})
