"""The part Transfer of the page Generate: the class of some images in the style of others (Figure 5)."""

from __future__ import annotations

import asyncio

import numpy as np
from nicegui import ui

from partedvae.errors import InvalidRequestError
from partedvae.grid import Row, labelled_grid, png_bytes
from partedvae.model_results import ModelDetails
from partedvae.results import ImageArray
from partedvae.serving.explore.elements.image_input import ImageInput, VisitorPicture
from partedvae.serving.explore.errors import errors_notified
from partedvae.serving.explore.model import ModelAccess
from partedvae.serving.explore.pictures.png import tiled
from partedvae.serving.explore.uploads import decode_upload
from partedvae.serving.explore.widgets import card, image_size

MAX_IMAGES = 8
"""Images of a grid, each of which is a row and a column."""
EXAMPLES = 4
CELL = 96
"""Largest width of an image on the page."""
ALL = ""
"""The choice of all factors."""


class Transfer:
    """The visitor's images, and the grid of what each has of the class of one and of the style of another."""

    def __init__(self, model: ModelAccess, details: ModelDetails) -> None:
        """Add the elements, without images."""
        self._model = model
        self._details = details
        self._images: list[ImageArray] = []
        self._factor = ALL
        self._redrawing = asyncio.Lock()
        width, height = image_size(details.manifest)
        with card(
            "Transfer",
            "Each row keeps the class (u) of the image at its left, each column the style (z) of that above.",
        ):
            ImageInput(
                self._on_file,
                width=width,
                height=height,
                max_bytes=lambda: model.limits.max_message_bytes,
                several=True,
            )
            with ui.element("div").classes("pv-controls pv-transfer__controls"):
                ui.button("Add an example", icon="add", on_click=self._on_example).props("outline no-caps")
                ui.button("Remove the last", icon="undo", on_click=self._on_remove).props("outline no-caps")
                if len(details.manifest.factors) > 1:
                    options = {ALL: "all factors", **{f.name: f.name for f in details.manifest.factors}}
                    ui.select(options, value=ALL, label="u of", on_change=self._on_factor).props("dense outlined")
                self._download = ui.button("PNG", icon="download")
                self._download.props('outline no-caps tag=a aria-label="Download the grid as PNG"')
            with ui.element("div").classes("pv-transfer") as self._grid:
                ui.element("div").classes("pv-transfer__corner")
                self._top = VisitorPicture("The images that give the style")
                self._left = VisitorPicture("The images that give the class")
                self._cells = VisitorPicture("Each class in each style")

    async def start(self) -> None:
        """Show examples, of the first classes of the first factor, each with a style of its own."""
        for i in range(EXAMPLES):
            self._images.append(await self._example(i))
        await self._redraw()

    async def _example(self, i: int) -> ImageArray:
        classes = {}
        if self._details.manifest.factors:
            first = self._details.manifest.factors[0]
            classes = {first.name: first.class_names[i % len(first.class_names)]}
        made = await self._model.checked(self._model.call.generate(1, classes=classes, seed=i))
        image: ImageArray = made.images[0]
        return image

    async def _add(self, image: ImageArray) -> None:
        if len(self._images) >= MAX_IMAGES:
            raise InvalidRequestError(f"the grid has {MAX_IMAGES} images, which is the limit; remove one first")
        self._images.append(image)
        await self._redraw()

    async def _on_file(self, content: bytes, _: str) -> None:
        image = await asyncio.to_thread(decode_upload, content, self._details, self._model.limits)
        with errors_notified():
            await self._add(image)

    async def _on_example(self) -> None:
        with errors_notified():
            await self._add(await self._example(len(self._images)))

    async def _on_remove(self) -> None:
        if len(self._images) > 1:
            self._images.pop()
            with errors_notified():
                await self._redraw()

    async def _on_factor(self, event: object) -> None:
        self._factor = getattr(event, "value", ALL)
        with errors_notified():
            await self._redraw()

    async def _redraw(self) -> None:
        async with self._redrawing:  # An earlier state could be drawn later.
            await self._draw(np.stack(self._images))

    async def _draw(self, images: ImageArray) -> None:
        factors = [self._factor] if self._factor != ALL else []
        call = self._model.call.transfer(u_images=images, z_images=images, factors=factors)
        cells = (await self._model.checked(call)).images
        count, (width, height) = len(images), image_size(self._details.manifest)
        top, left, grid, whole = await asyncio.to_thread(_pictures, images, cells)
        self._grid.style(
            f"grid-template-columns: minmax(0, 1fr) minmax(0, {count}fr); max-width: {CELL * (count + 1)}px"
        )
        self._top.show(top, (width * count, height))
        self._left.show(left, (width, height * count))
        self._cells.show(grid, (width * count, height * count))
        self._download.props["href"] = self._cells.offer(whole, f"{self._details.name}-transfer")
        self._download.update()


def _pictures(images: ImageArray, cells: ImageArray) -> tuple[bytes, bytes, bytes, bytes]:
    """Return PNG files of the images as a row and as a column, of the grid, and of the whole."""
    count, flat = len(images), cells.reshape(-1, *images.shape[1:])
    row, column, grid = tiled(images, count), tiled(images, 1), tiled(flat, count)
    return png_bytes(row), png_bytes(column), png_bytes(grid), _figure(images, cells)


def _figure(images: ImageArray, cells: ImageArray) -> bytes:
    """Return the grid with the images above and at its left, as PNG."""
    corner = np.full_like(images[0], 255)
    rows = [np.stack([corner, *images]), *(np.stack([image, *row]) for image, row in zip(images, cells, strict=True))]
    return png_bytes(labelled_grid([Row(images=row) for row in rows]))
