"""What the points of a map can be coloured by, and with which colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from partedvae.results import FloatArray
from partedvae.serving.explore.features.columns import UNFAMILIAR
from partedvae.serving.explore.features.table import MISSING, Categories, FactorFeatures, FeatureTable

PALETTE = (
    *("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#76b7b2", "#edc948", "#ff9da7", "#9c755f", "#86bc25"),
    *("#2f5d8a", "#b35c00", "#2e7d32", "#a3262a", "#7b3f8c", "#2a8f89", "#a88600", "#d45087", "#6b4a36", "#4f7a00"),
)
"""Colours of classes, which can be told apart on light and on dark; further classes get hues between them."""
SCALE = ("#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725")
"""Colours of numbers from small to large: viridis, which keeps its order for colour-blind readers."""
CORRECT, WRONG = "correct", "wrong"
_TITLES = {
    "negative_elbo": "Negative ELBO",
    "reconstruction_error": "Reconstruction error",
    UNFAMILIAR: "Unlike the training images",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Colouring:
    """One way to colour the points."""

    name: str
    """As in URLs: "class:digit"."""
    title: str
    categories: Categories | None = None
    """The values, if there are few."""
    colours: Sequence[str] = ()
    """Colour of each of these values."""
    numbers: FloatArray | None = None
    """Otherwise, a number per point [points]."""
    low: float = 0.0
    high: float = 1.0
    """Numbers of the first and the last colour of `SCALE`; those beyond have the same."""

    @property
    def codes(self) -> NDArray[np.uint8]:
        """Colour of every point [points]: index of its value, or its place in the scale from 0 to 254; 255 for none."""
        if self.categories is not None:
            codes = np.where(self.categories.codes == MISSING, 255, self.categories.codes)
            return np.asarray(codes, dtype=np.uint8)
        assert self.numbers is not None
        place = (self.numbers - self.low) / ((self.high - self.low) or 1.0)
        codes = np.asarray(np.clip(np.nan_to_num(place) * 254, 0, 254), dtype=np.uint8)
        codes[~np.isfinite(self.numbers)] = 255
        return codes

    def describe(self, point: int) -> str:
        """Return the value of a point as text."""
        if self.categories is not None:
            code = int(self.categories.codes[point])
            return "-" if code == MISSING else self.categories.values[code]
        assert self.numbers is not None
        return f"{self.numbers[point]:.4g}"


def colourings_of(table: FeatureTable) -> dict[str, Colouring]:
    """Return the ways to colour the points of a file, by name; the first is the usual one."""
    found: list[Colouring] = []
    for factor in table.factors:
        if factor.classes is not None and len(factor.classes.values) <= 255:
            found.append(_of_categories(f"class:{factor.name}", f"Class of {factor.name}", factor.classes))
    found += [found_error for factor in table.factors if (found_error := _errors(table, factor)) is not None]
    for factor in table.factors:
        if factor.confidence is not None:
            found.append(_of_numbers(f"confidence:{factor.name}", f"Confidence of {factor.name}", factor.confidence))
    for name, numbers in table.scores.items():
        found.append(_of_numbers(f"score:{name}", _TITLES.get(name, name), numbers))
    for name, categories in table.categories.items():
        found.append(_of_categories(f"column:{name}", _TITLES.get(name, name), categories))
    if not found:
        everything = Categories(values=("all",), codes=np.zeros(len(table), dtype=np.int32))
        found.append(_of_categories("none", "None", everything))
    return {colouring.name: colouring for colouring in found}


def colours_for(count: int) -> tuple[str, ...]:
    """Return different colours."""
    if count <= len(PALETTE):
        return PALETTE[:count]
    return tuple(f"hsl({(i * 137.508) % 360:.0f} 60% {45 + 10 * (i % 3)}%)" for i in range(count))


def _of_categories(name: str, title: str, categories: Categories) -> Colouring:
    colours = colours_for(len(categories.values))
    return Colouring(name=name, title=title, categories=categories, colours=colours)


def _of_numbers(name: str, title: str, numbers: FloatArray) -> Colouring:
    """Colour from the 1st to the 99th percentile, so that a few outliers do not use up the scale."""
    finite = numbers[np.isfinite(numbers)]
    low, high = np.percentile(finite, [1, 99]).tolist() if len(finite) else (0.0, 1.0)
    return Colouring(name=name, title=title, numbers=numbers, low=float(low), high=float(high))


def _errors(table: FeatureTable, factor: FactorFeatures) -> Colouring | None:
    """Compare the class of a factor with the column of the input that has its true one; None if there is no such."""
    predicted, name = factor.classes, _truth(table, factor)
    if predicted is None or name is None:
        return None
    true = table.categories[name]
    place = np.array([predicted.values.index(value) for value in true.values])
    known = true.codes != MISSING
    wrong = np.full(len(table), MISSING, dtype=np.int32)
    wrong[known] = place[true.codes[known]] != predicted.codes[known]
    share = f"{int((wrong == 1).sum()):,} of {int(known.sum()):,}"
    return Colouring(
        name=f"error:{factor.name}",
        title=f"Errors of {factor.name} ({share} differ from {name})",
        categories=Categories(values=(CORRECT, WRONG), codes=wrong),
        colours=("#8a94a6", "#e5484d"),
    )


def _truth(table: FeatureTable, factor: FactorFeatures) -> str | None:
    """Return the column of the input that has the true classes of a factor; None if there is no such.

    All its values are classes of the factor. Of several, it is the one of the factor's name, or with the name in its
    own. Another one is taken only where it cannot be that of another factor, which may have the same classes.
    """
    classes = set(factor.classes.values if factor.classes is not None else ())
    names = [name for name, found in table.categories.items() if name != UNFAMILIAR and classes >= set(found.values)]
    exact = [name for name in names if name.lower() == factor.name.lower()]
    similar = [name for name in names if factor.name.lower() in name.lower()]
    return next(iter([*exact, *similar, *(names if len(table.factors) == 1 else [])]), None)
