"""Bars of class probabilities, and of latents against their priors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from nicegui import ui


class ProbabilityBars(ui.element, component="probability_bars.js"):
    """One bar per class; the most probable is marked."""

    def __init__(self, label: str, names: Sequence[str]) -> None:
        """Add the element, without probabilities.

        Args:
            label: of the whole, for screen readers.
            names: of the classes.
        """
        super().__init__()
        self._props["label"] = label
        self._props["names"] = list(names)
        self._props["values"] = [0.0] * len(names)

    def show(self, probabilities: Sequence[float]) -> None:
        """Show the probabilities of an image."""
        self._props["values"] = [round(value, 4) for value in probabilities]
        self.update()


@dataclass(frozen=True, kw_only=True)
class LatentBar:
    """One dimension of an image's latents and of their prior."""

    label: str
    """"z0"."""
    value: float
    """Mean of the posterior."""
    deviation: float
    """Standard deviation of the posterior."""
    mean: float
    """Mean of the prior."""
    spread: float
    """Standard deviation of the prior."""


class LatentBars(ui.element, component="latent_bars.js"):
    """One row per dimension: the posterior as a point with a range, on its prior as a band."""

    def __init__(self, label: str, low: float, high: float) -> None:
        """Add the element, without rows.

        Args:
            label: of the whole, for screen readers.
            low: left end of the axis; values beyond are shown at it.
            high: right end.
        """
        super().__init__()
        self._props["label"] = label
        self._props["low"] = low
        self._props["high"] = high
        self._props["rows"] = []

    def show(self, rows: Sequence[LatentBar]) -> None:
        """Show the latents of an image."""
        self._props["rows"] = [
            {name: value if isinstance(value, str) else round(value, 3) for name, value in asdict(row).items()}
            for row in rows
        ]
        self.update()


class Gauge(ui.element, component="gauge.js"):
    """A value on an axis with the range that is usual, and a limit."""

    def __init__(self, label: str) -> None:
        """Add the element, without a value."""
        super().__init__()
        self._props["label"] = label
        self._props["value"] = None

    def show(self, value: float, *, limit: float | None, usual: Sequence[float] = ()) -> None:
        """Show a value.

        Args:
            value: the value.
            limit: values above it are unusual; None where that is not known.
            usual: low end, middle and high end of the range of most values; empty where it is not known.
        """
        self._props["value"] = round(value, 2)
        self._props["limit"] = limit
        self._props["usual"] = list(usual)
        self.update()
