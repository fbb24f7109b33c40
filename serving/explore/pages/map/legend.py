"""The legend of the map: what its colours mean; classes can be hidden."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from nicegui import ui

from partedvae.serving.explore.features.colours import SCALE, Colouring

MOST_ENTRIES = 64


def show_legend(colouring: Colouring, on_hidden: Callable[[list[int]], None]) -> None:
    """Add the legend of a colouring.

    Args:
        colouring: the colouring.
        on_hidden: called with the codes of the colours that the visitor hides.
    """
    if colouring.categories is None:
        _scale(colouring)
        return
    counts = np.bincount(colouring.codes, minlength=256)
    hidden: set[int] = set()

    def toggle(code: int, entry: ui.element) -> None:
        hidden.symmetric_difference_update({code})
        entry.props(f'aria-pressed="{"false" if code in hidden else "true"}"')
        on_hidden(sorted(hidden))

    for code, name in enumerate(colouring.categories.values[:MOST_ENTRIES]):
        entry = ui.element("button").classes("pv-legend__entry").props('type="button" aria-pressed="true"')
        entry.on("click", lambda code=code, entry=entry: toggle(code, entry))
        with entry:
            ui.element("span").classes("pv-legend__dot").style(f"background: {colouring.colours[code]}")
            ui.label(name)
            ui.label(f"{counts[code]:,}").classes("pv-legend__count")
    left_out = len(colouring.categories.values) - MOST_ENTRIES
    if left_out > 0:
        ui.label(f"and {left_out:,} more")


def _scale(colouring: Colouring) -> None:
    ui.label(f"{colouring.low:.3g}")
    bar = ui.element("div").classes("pv-legend__scale").props("role=img")
    bar.props["aria-label"] = colouring.title
    bar.style(f"background: linear-gradient(to right, {', '.join(SCALE)})")
    ui.label(f"{colouring.high:.3g}")
