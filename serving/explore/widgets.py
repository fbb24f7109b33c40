"""Parts that several pages have: cards, pickers of classes, and pictures of plain routes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlencode

from nicegui import ui

from partedvae.v1.manifest_pb2 import Factor, Manifest

SHOWN_SECONDS = 30.0
"""Time for a browser to show a page."""


async def page_shown() -> None:
    """Wait until the browser shows the page as it is so far. To be awaited by pages before they wait for a model.

    NiceGUI answers with an error where a page takes three seconds before.

    Raises:
        ClientConnectionTimeout: it is not shown, since a program and no browser has asked for it.
    """
    await ui.context.client.connected(timeout=SHOWN_SECONDS)


@contextmanager
def card(title: str, hint: str = "") -> Iterator[ui.element]:
    """Add a section with a heading; the block adds its content."""
    with ui.element("section").classes("pv-card") as section:
        section.props["aria-label"] = title
        with ui.element("div").classes("pv-card__head"):
            ui.label(title).classes("pv-card__title").props('role="heading" aria-level="2"')
            if hint:
                ui.label(hint).classes("pv-card__hint")
        yield section


def class_options(factor: Factor, others: Mapping[str, str]) -> dict[str, str]:
    """Return the options of a picker of a factor's classes, by value.

    Args:
        factor: the factor.
        others: options that precede the classes, by value.
    """
    return {**others, **{name: name for name in factor.class_names}}


def address(path: str, **parameters: object) -> str:
    """Return a URL with its parameters; those that are None, or empty, are left out."""
    given = {name: value for name, value in parameters.items() if value is not None and value != ""}
    return f"{path}?{urlencode(given, doseq=True)}" if given else path


def pixels(source: str, description: str, *, width: int, height: int) -> ui.element:
    """Add a picture of small images, enlarged without smoothing.

    Args:
        source: its URL.
        description: its alternative text.
        width: of the picture in pixels, before it is enlarged.
        height: likewise.
    """
    image = ui.element("img").classes("pv-pixels")
    image.props["src"] = source
    image.props["alt"] = description
    image.props["width"] = width
    image.props["height"] = height
    return image


def image_size(manifest: Manifest) -> tuple[int, int]:
    """Return width and height of the model's images."""
    return manifest.image.width, manifest.image.height
