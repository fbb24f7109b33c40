"""A map of points as an element of NiceGUI: it draws on a canvas in the browser, and its data come by plain routes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nicegui import events
from nicegui.element import Element


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What a visitor has selected."""

    points: Sequence[int]
    """Some of the points, at most `Scatter.most`."""
    count: int
    """All of them."""
    counts: dict[int, int]
    """Points per colour, by its code."""


def selection_of(sent: Mapping[str, Any], *, total: int, most: int) -> Selection:
    """Return the selection that a browser has sent, without points that do not exist.

    Args:
        sent: the arguments of the event.
        total: all points.
        most: points of a selection that are kept.
    """
    points = [point for point in map(int, sent["points"]) if 0 <= point < total]
    counts = {int(code): int(count) for code, count in sent["counts"].items()}
    return Selection(points=points[:most], count=int(sent["count"]), counts=counts)


class Scatter(Element, component="scatter.js", esm={"partedvae-scatter": "scatter"}):
    """One map. Maps of the same group show the same selection."""

    def __init__(
        self,
        name: str,
        *,
        group: str,
        label: str,
        version: str,
        selected: Sequence[int],
        total: int,
        most: int,
        on_selection: Callable[[Selection], Any],
    ) -> None:
        """Add a map without points.

        Args:
            name: of the map in its group.
            group: of maps that are linked.
            label: what a screen reader calls it.
            version: of the data, in the URLs of points and their images.
            selected: points that are selected at first.
            total: all points; others are not selected, whatever a browser sends.
            most: points of a selection that are sent.
            on_selection: called with what the visitor selects.
        """
        super().__init__()
        self._props |= {
            "name": name,
            "group": group,
            "label": label,
            "version": version,
            "selected": list(selected),
            "most": most,
            "positions": "",
            "codes": "",
            "colours": [],
            "scale": False,
            "hidden": [],
            "lasso": False,
        }

        def selected_in_browser(event: events.GenericEventArguments) -> Any:
            return on_selection(selection_of(event.args, total=total, most=most))

        self.on("selection", selected_in_browser)

    def show(self, positions: str) -> None:
        """Show other positions.

        Args:
            positions: their URL.
        """
        self._props["positions"] = positions
        self.update()

    def colour(self, codes: str, colours: Sequence[str], *, scale: bool) -> None:
        """Colour the points.

        Args:
            codes: URL of a byte per point.
            colours: of these codes, or of a scale.
            scale: whether the codes are places in a scale.
        """
        self._props |= {"colours": list(colours), "scale": scale, "hidden": [], "codes": codes}
        self.update()

    def hide(self, codes: Sequence[int]) -> None:
        """Hide the points of some colours."""
        self._props["hidden"] = list(codes)
        self.update()

    def draw_lasso(self, lasso: bool) -> None:
        """Choose whether dragging draws a lasso, or moves the map."""
        self._props["lasso"] = lasso
        self.update()

    def select(self, points: Sequence[int]) -> None:
        """Select points, in all maps of the group."""
        self.run_method("select", list(points))

    def zoom(self, factor: float) -> None:
        """Zoom in or out around the centre."""
        self.run_method("zoom", factor)

    def reset(self) -> None:
        """Show the whole map."""
        self.run_method("reset")
