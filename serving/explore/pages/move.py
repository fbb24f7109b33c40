"""The page Move: a slider for every dimension, and what it changes."""

from __future__ import annotations

from nicegui import ui

from partedvae.errors import InvalidRequestError
from partedvae.serving.explore.context import Context
from partedvae.serving.explore.elements.mover import Mover
from partedvae.serving.explore.pictures.latents import from_text, u_dim


def build(context: Context) -> None:
    """Show the sliders where the URL of the page says, or at the modes of the first classes."""
    assert context.model is not None
    details = context.model.details
    assert details is not None
    query = ui.context.client.request.query_params
    manifest = details.manifest
    names = [factor.name for factor in manifest.factors]
    Mover(
        details,
        u=_start("u", query.get("u"), u_dim(manifest)),
        z=_start("z", query.get("z"), manifest.z_dim),
        classes={name: query[f"class.{name}"] for name in names if f"class.{name}" in query},
    )


def _start(name: str, text: str | None, dims: int) -> list[float] | None:
    """Return the numbers of a URL; None, with a notification, where they do not fit the model."""
    if text is None:
        return None
    try:
        values: list[float] = from_text(name, text, dims)[0].tolist()
    except InvalidRequestError as error:
        ui.notify(f"The URL of the page was not used: {error}", type="warning")
        return None
    return values
