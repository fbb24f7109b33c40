"""What a visitor has chosen on the map, as it is in the URL of the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from partedvae.serving.explore.features.feature_map import FeatureMap
from partedvae.serving.explore.features.projections import DEFAULT_SAMPLE, METHODS, Method, unavailable
from partedvae.serving.explore.integers import integer_of
from partedvae.serving.explore.widgets import address

MOST_SHOWN = 48
"""Images of a selection."""


@dataclass(kw_only=True)
class MapChoices:
    """What a visitor has chosen."""

    colour: str
    """Name of a colouring."""
    u: str
    """Name of the space of the map of u."""
    method: Method = "pca"
    points: int = DEFAULT_SAMPLE
    """Most points of t-SNE and UMAP; 0 for all."""
    selected: list[int] = field(default_factory=list)
    """Points whose images are shown."""

    def address(self) -> str:
        """Return the URL of the page."""
        return address(
            "/map",
            colour=self.colour,
            u=self.u if self.u != "u" else None,
            method=self.method,
            points=self.points if self.method != "pca" else None,
            selected=",".join(map(str, self.selected)),
        )


def choices_of(query: Mapping[str, str], shown: FeatureMap) -> MapChoices:
    """Return the choices of a URL; what it does not say, or what is not available, is as usual."""
    choices = MapChoices(
        colour=_one_of(query.get("colour"), list(shown.colourings)),
        u=_one_of(query.get("u"), [name for name, space in shown.spaces.items() if space.side == "u"]),
    )
    choices.method = next((m for m in METHODS if m == query.get("method") and not unavailable(m)), "pca")
    points = integer_of(query.get("points", ""))
    if points is not None:
        choices.points = min(points, len(shown.table))
    given = map(integer_of, query.get("selected", "").split(","))
    choices.selected = [point for point in given if point is not None and point < len(shown.table)][:MOST_SHOWN]
    return choices


def _one_of(given: str | None, known: list[str]) -> str:
    if given in known:
        return str(given)
    return known[0] if known else ""
