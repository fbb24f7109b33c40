"""The page Map: u and z in two dimensions, side by side, with the images of the points that a visitor selects."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath
from typing import Any

from nicegui import background_tasks, ui

from partedvae.serving.errors import InvalidInputError
from partedvae.serving.explore.context import Context
from partedvae.serving.explore.elements.scatter import Scatter, Selection
from partedvae.serving.explore.features.colours import SCALE, Colouring
from partedvae.serving.explore.features.feature_map import FeatureMap
from partedvae.serving.explore.features.jobs import MapKey, Projection
from partedvae.serving.explore.features.projections import METHODS, SAMPLES, TITLES, unavailable
from partedvae.serving.explore.pages.map.address import MOST_SHOWN, choices_of
from partedvae.serving.explore.pages.map.legend import show_legend
from partedvae.serving.explore.pages.map.routes import colours_address, positions_address
from partedvae.serving.explore.pages.map.selection import SelectedImages, summary_of
from partedvae.serving.explore.pages.map.waiting import Waiting
from partedvae.serving.explore.widgets import card

SIDES = ("u", "z")
ZOOM = 1.6
EXPLANATION = "Click a point, or draw a lasso around some, to see their images."


def build(context: Context) -> None:
    """Show the maps; what is chosen is in the URL of the page."""
    assert context.features is not None
    ui.add_head_html('<link rel="stylesheet" href="/static/map.css">')
    _MapPage(context, context.features).build()


class _MapPage:
    """One visitor's map."""

    def __init__(self, context: Context, shown: FeatureMap) -> None:
        self._context = context
        self._shown = shown
        self._choices = choices_of(ui.context.client.request.query_params, shown)
        self._group = f"map-{ui.context.client.id}"
        self._maps: dict[str, Scatter] = {}
        self._captions: dict[str, ui.label] = {}
        self._drawn: dict[str, MapKey] = {}
        self._waiting = Waiting(shown.projections, self._draw)

    def build(self) -> None:
        with card("Map", self._described()):
            self._controls()
            self._waiting.build(self._give_up)
            self._legend = ui.element("div").classes("pv-legend").props('role="group" aria-label="Legend"')
            for note in self._shown.table.notes:
                ui.label(note).classes("pv-card__hint")
        with ui.element("div").classes("pv-maps"):
            for side in SIDES:
                self._map(side)
        with card("Selected images"):
            self._images = SelectedImages(self._context, self._shown)
        self._images.explain(EXPLANATION)
        self._recolour()
        ui.timer(0, self._start, once=True)
        ui.context.client.on_delete(self._waiting.stop)

    def _described(self) -> str:
        table = self._shown.table
        model = table.footer("model")
        name = PurePosixPath(table.source).name
        return f"{len(table):,} images of {name}" + (f", model {model}" if model else "")

    def _controls(self) -> None:
        choices = self._choices
        methods = {m: TITLES[m] + (" (not installed)" if unavailable(m) else "") for m in METHODS}
        samples = {n: f"{n:,} points" for n in SAMPLES if n < len(self._shown.table)} | {0: "all points"}
        if choices.points not in samples:
            choices.points = min(samples, key=lambda n: abs((n or len(self._shown.table)) - choices.points))
        colours = {name: colouring.title for name, colouring in self._shown.colourings.items()}
        spaces = {s.name: s.title for s in self._shown.spaces.values() if s.side == "u"}
        with ui.element("div").classes("pv-controls"):
            self._method = self._select(methods, choices.method, "projection", self._choose_method)
            self._points = self._select(samples, choices.points, "of", self._choose_points)
            self._points.set_visibility(choices.method != "pca")
            self._select(colours, choices.colour, "colour", self._choose_colour).classes("pv-wide")
            if len(spaces) > 1:
                self._select(spaces, choices.u, "map of u", self._choose_u)
            with ui.button_group().props("outline"):
                self._lasso = _icon("highlight_alt", "Draw a lasso (or hold Shift)", self._toggle_lasso)
                _icon("zoom_in", "Zoom in", lambda: self._zoom(ZOOM))
                _icon("zoom_out", "Zoom out", lambda: self._zoom(1 / ZOOM))
                _icon("fit_screen", "Show all", self._reset)
                _icon("deselect", "Clear the selection", self._clear)

    def _select(self, options: dict[Any, str], value: Any, label: str, choose: Any) -> ui.select:
        chosen = ui.select(options, value=value, label=label, on_change=lambda event: choose(event.value))
        return chosen.props("dense outlined options-dense")

    def _map(self, side: str) -> None:
        with ui.element("section").classes("pv-card pv-map-card") as section:
            section.props["aria-label"] = f"Map of {side}"
            if reason := self._shown.missing(side):
                ui.label(side).classes("pv-card__title")
                ui.label(reason).classes("pv-map__none")
                return
            with ui.element("div").classes("pv-card__head"):
                title = next(s.title for s in self._shown.spaces.values() if s.side == side)
                ui.label(title).classes("pv-card__title").props('role="heading" aria-level="2"')
                self._captions[side] = ui.label().classes("pv-card__hint")
            self._maps[side] = Scatter(
                side,
                group=self._group,
                label=f"Map of {side}. Arrows move it, plus and minus zoom, Enter selects the point at the centre, "
                "Escape clears the selection.",
                version=self._shown.version,
                selected=self._choices.selected,
                total=len(self._shown.table),
                most=MOST_SHOWN,
                on_selection=self._selected,
            )

    async def _start(self) -> None:
        if self._choices.selected:
            points = self._choices.selected
            counts = Counter(self._colouring.codes[list(points)].tolist())
            summary = summary_of(len(points), len(points), counts, self._colouring)
            background_tasks.create(self._images.show(points, summary))
        if self._choices.method != "pca":
            await self._show_at_once()
        await self._project()

    async def _show_at_once(self) -> None:
        """Show the points by PCA until the method of the URL is computed, which may take minutes."""
        for side in self._maps:
            projection = await self._shown.projections.ask(self._shown.projections.key(self._space(side), "pca", 0))
            self._draw(side, projection)
            self._shown.projections.release(projection)

    async def _project(self) -> None:
        """Show the projections that are chosen, when they are computed."""
        method = self._choices.method
        try:
            keys = {
                side: self._shown.projections.key(self._space(side), method, self._choices.points)
                for side in self._maps
            }
        except InvalidInputError as error:
            ui.notify(str(error), type="warning", multi_line=True)
            self._give_up()
            return
        await self._waiting.ask(keys)

    def _space(self, side: str) -> str:
        return self._choices.u if side == "u" else "z"

    def _draw(self, side: str, projection: Projection) -> None:
        """Show a projection that is computed."""
        key = projection.key
        self._drawn[side] = key
        self._maps[side].show(positions_address(self._shown, key))
        there = len(self._shown.table)
        parts = [TITLES[key.method]]
        if projection.share is not None:
            parts.append(f"{projection.share:.0%} of the variance")
        if projection.points < there:
            parts.append(f"{projection.points:,} of {there:,} points")
        self._captions[side].text = ", ".join(parts)

    def _give_up(self) -> None:
        """Go back to the method that is shown."""
        drawn = next(iter(self._drawn.values()), None)
        self._method.value = drawn.method if drawn is not None else "pca"

    async def _choose_method(self, method: str) -> None:
        if reason := unavailable(next(m for m in METHODS if m == method)):
            ui.notify(reason, type="warning", multi_line=True)
            self._give_up()
            return
        self._choices.method = next(m for m in METHODS if m == method)
        self._points.set_visibility(method != "pca")
        self._remember()
        await self._project()

    async def _choose_points(self, points: int) -> None:
        self._choices.points = points
        self._remember()
        if self._choices.method != "pca":
            await self._project()

    async def _choose_u(self, space: str) -> None:
        self._choices.u = space
        self._remember()
        await self._project()

    def _choose_colour(self, name: str) -> None:
        self._choices.colour = name
        self._remember()
        self._recolour()

    @property
    def _colouring(self) -> Colouring:
        return self._shown.colourings[self._choices.colour]

    def _recolour(self) -> None:
        colouring = self._colouring
        is_scale = colouring.categories is None
        for scatter in self._maps.values():
            scatter.colour(
                colours_address(self._shown, colouring.name), SCALE if is_scale else colouring.colours, scale=is_scale
            )
        self._legend.clear()
        with self._legend:
            show_legend(colouring, self._hide)

    def _hide(self, codes: list[int]) -> None:
        for scatter in self._maps.values():
            scatter.hide(codes)

    async def _selected(self, selection: Selection) -> None:
        self._choices.selected = list(selection.points)
        self._remember()
        if not selection.points:
            self._images.explain(EXPLANATION)
            return
        summary = summary_of(selection.count, len(selection.points), selection.counts, self._colouring)
        await self._images.show(selection.points, summary)

    def _toggle_lasso(self) -> None:
        drawing = self._lasso.props.get("aria-pressed") != "true"
        self._lasso.props(f'aria-pressed="{"true" if drawing else "false"}" color={"primary" if drawing else "grey-7"}')
        for scatter in self._maps.values():
            scatter.draw_lasso(drawing)

    def _zoom(self, factor: float) -> None:
        for scatter in self._maps.values():
            scatter.zoom(factor)

    def _reset(self) -> None:
        for scatter in self._maps.values():
            scatter.reset()

    def _clear(self) -> None:
        for scatter in self._maps.values():
            scatter.select([])
        self._choices.selected = []
        self._remember()
        self._images.explain(EXPLANATION)

    def _remember(self) -> None:
        ui.navigate.history.replace(self._choices.address())


def _icon(icon: str, label: str, on_click: Any) -> ui.button:
    with ui.button(icon=icon, on_click=on_click).props("outline dense color=grey-7") as button:
        button.props["aria-label"] = label
        ui.tooltip(label)
    return button
