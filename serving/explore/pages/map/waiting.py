"""The projections that a visitor waits for, with their progress and a button that ends them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nicegui import ui

from partedvae.serving.explore.features.jobs import MapKey, Projection, Projections
from partedvae.serving.explore.features.projections import TITLES

CHECK_SECONDS = 0.4
_MINUTE = 60


class Waiting:
    """What one visitor waits for."""

    def __init__(self, projections: Projections, draw: Callable[[str, Projection], None]) -> None:
        """Wait for nothing.

        Args:
            projections: computes them.
            draw: called with the name of a map and its projection when that is done.
        """
        self._projections = projections
        self._draw = draw
        self._asked: dict[str, Projection] = {}
        self._calls = 0

    def build(self, on_cancel: Callable[[], None]) -> None:
        """Add the progress, which is hidden while nothing is computed.

        Args:
            on_cancel: called when the visitor has ended the computation.
        """
        with ui.element("div").classes("pv-progress").props('role="status"') as self._box:
            self._text = ui.label()
            self._bar = ui.linear_progress(0.0, show_value=False).props("rounded instant-feedback")
            ui.button("Cancel", on_click=lambda: self._cancel(on_cancel)).props("flat dense no-caps")
        self._box.set_visibility(False)
        self._timer = ui.timer(CHECK_SECONDS, self._check, active=False)

    async def ask(self, keys: Mapping[str, MapKey]) -> None:
        """Wait for projections, by the name of their map, and no longer for others."""
        self._calls += 1
        call = self._calls
        asked = {side: await self._projections.ask(key) for side, key in keys.items()}
        if call != self._calls:  # The visitor has asked for others meanwhile, or has left.
            self._release(asked)
            return
        # After the new ones, since a computation that both have goes on.
        before, self._asked = self._asked, asked
        self._release(before)
        self._check()
        self._timer.active = bool(self._asked)

    def stop(self) -> None:
        """Wait no longer."""
        self._calls += 1
        self._release(self._asked)
        self._asked = {}

    def _release(self, asked: Mapping[str, Projection]) -> None:
        for projection in asked.values():
            self._projections.release(projection)

    def _cancel(self, on_cancel: Callable[[], None]) -> None:
        self.stop()
        self._check()
        on_cancel()

    def _check(self) -> None:
        for side, projection in list(self._asked.items()):
            if projection.state in ("done", "failed"):
                del self._asked[side]
                self._projections.release(projection)
                if projection.state == "done":
                    self._draw(side, projection)
                else:
                    ui.notify(projection.error, type="negative", multi_line=True)
        waiting = list(self._asked.values())
        self._box.set_visibility(bool(waiting))
        self._timer.active = bool(waiting)
        if waiting:
            self._bar.value = sum(projection.done for projection in waiting) / len(waiting)
            self._text.text = "; ".join(map(_described, waiting))


def _described(projection: Projection) -> str:
    key = projection.key
    text = f"{TITLES[key.method]} of {key.space}, {projection.points:,} points"
    if projection.state == "queued":
        return f"{text}: waits"
    left = projection.seconds_left
    if left is None:
        return f"{text}: {projection.done:.0%}"
    unit = f"{max(1, round(left))} s" if left < 2 * _MINUTE else f"{round(left / _MINUTE)} min"
    return f"{text}: {projection.done:.0%}, about {unit} left"
