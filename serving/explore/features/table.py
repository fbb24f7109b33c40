"""The features of a file in memory: what the map draws, colours and names its points with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from partedvae.results import FloatArray
from partedvae.serving.extract.output.identity import PREFIX

Codes = NDArray[np.int32]
Rows = NDArray[np.int64]
MISSING = -1
"""Code of a value that is missing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Categories:
    """A column of few different values."""

    values: tuple[str, ...]
    """The values, in the order of the legend."""
    codes: Codes
    """Index of the value of every point [points]; `MISSING` for none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FactorFeatures:
    """What the file says of a factor."""

    name: str
    classes: Categories | None
    """The most probable class; None if the file does not have it."""
    confidence: FloatArray | None
    """Probability of that class [points]."""
    u: slice
    """Columns of its u among those of all factors; empty if they are not known."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureTable:
    """The features of the points of a map, which are rows of a file without those that could not be read."""

    source: str
    """Path or URL of the file."""
    metadata: Mapping[str, str]
    """Texts of its footer; empty if it has none."""
    rows: Rows
    """Row of the file of every point [points], ascending."""
    keys: pa.Array
    """Path or index of every point."""
    key: str
    """"path" or "index"."""
    factors: Sequence[FactorFeatures]
    u: FloatArray | None
    """Class-related features [points, u_dim] of all factors side by side; None if the file has none."""
    z: FloatArray | None
    """Class-independent features [points, z_dim]; None if the file has none."""
    scores: Mapping[str, FloatArray]
    """Numbers of every point by column: negative_elbo, reconstruction_error, and numbers of the input [points]."""
    categories: Mapping[str, Categories]
    """Columns of the input of few values, and `unfamiliar`."""
    notes: Sequence[str]
    """What is not shown, and why."""

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.rows)

    def key_of(self, point: int) -> str:
        """Return the path or index of a point as text."""
        return str(self.keys[point].as_py())

    def footer(self, key: str) -> str:
        """Return a text of the footer by its key without prefix; empty if it is not there."""
        return self.metadata.get(PREFIX + key, "")

    def factor(self, name: str) -> FactorFeatures:
        """Return a factor by its name.

        Raises:
            KeyError: there is none of that name.
        """
        for factor in self.factors:
            if factor.name == name:
                return factor
        raise KeyError(name)
