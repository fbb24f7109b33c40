"""The images of the points that a visitor has selected."""

from __future__ import annotations

from collections.abc import Sequence

from nicegui import ui

from partedvae.serving.explore.context import Context
from partedvae.serving.explore.features.colours import Colouring
from partedvae.serving.explore.features.feature_map import FeatureMap
from partedvae.serving.explore.features.images import PointImage
from partedvae.serving.explore.pages.map.routes import image_address

MOST_CLASSES = 6
"""Classes that the summary of a selection names."""


class SelectedImages:
    """A grid of images, with path, class and probability."""

    def __init__(self, context: Context, shown: FeatureMap) -> None:
        """Add an empty grid."""
        self._context = context
        self._shown = shown
        self._summary = ui.label().classes("pv-card__hint").props('role="status"')
        self._reason = ui.label().classes("pv-card__hint pv-selection__reason")
        self._grid = ui.element("ul").classes("pv-selection").props('aria-label="Images of the selected points"')
        self._asked: Sequence[int] = ()

    def explain(self, text: str) -> None:
        """Show a text in place of images."""
        self._asked = ()
        self._summary.text = text
        self._reason.text = ""
        self._grid.clear()

    async def show(self, points: Sequence[int], summary: str) -> None:
        """Show the images of points; of several calls, the last one counts."""
        self._asked = points
        self._summary.text = summary
        images = await self._shown.images(points, self._context.model)
        if self._asked is not points:
            return
        reasons = dict.fromkeys(image.reason for image in images if image.reason)
        drawn = sum(image.kind == "reconstruction" for image in images)
        start = f"{drawn:,} drawn by the model from u and z, since the images cannot be read: " if drawn else ""
        self._reason.text = start + "; ".join(list(reasons)[:3]) if reasons else ""
        self._grid.clear()
        with self._grid:
            for image in images:
                self._tile(image)

    def _tile(self, image: PointImage) -> None:
        lines = self._shown.describe(image.point)
        with ui.element("li").classes(f"pv-tile pv-tile--{image.kind}").props(f'data-point="{image.point}"'):
            if image.png:
                picture = ui.element("img").classes("pv-pixels pv-tile__picture")
                picture.props["src"] = image_address(self._shown, image.point)
                kind = "Reconstruction" if image.kind == "reconstruction" else "Image"
                picture.props["alt"] = f"{kind} of {lines[0]}"
            else:
                ui.icon("hide_image").classes("pv-tile__picture").props('aria-hidden="true"')
            if image.kind == "reconstruction":
                ui.label("reconstruction").classes("pv-tile__mark")
            ui.label(lines[0]).classes("pv-tile__key")
            for line in lines[1 : 1 + len(self._shown.table.factors)]:
                ui.label(line).classes("pv-tile__class")
            ui.tooltip("\n".join(lines)).classes("pv-tile__lines")


def summary_of(count: int, shown: int, counts: dict[int, int], colouring: Colouring) -> str:
    """Return a line on a selection: how many points, how many of which class, and how many are shown."""
    text = f"{count:,} {'point' if count == 1 else 'points'}"
    if colouring.categories is not None and count > 1:
        known = range(len(colouring.categories.values))
        named = sorted(((n, code) for code, n in counts.items() if code in known), reverse=True)
        parts = [f"{colouring.categories.values[code]}: {n:,}" for n, code in named[:MOST_CLASSES]]
        more = ", …" if len(named) > MOST_CLASSES else ""
        text += f" ({', '.join(parts)}{more})" if parts else ""
    return text if shown >= count else f"{text}; {shown} of them are shown"
