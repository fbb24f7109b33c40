"""Images that a model made, with what they show: small dataclasses of arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from partedvae.results import FloatArray, ImageArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Generated:
    """New images with the class of each."""

    images: ImageArray
    """uint8 [images, height, width, channels], at the model's size."""
    classes: Mapping[str, NDArray[np.str_]]
    """For each factor by name, in the model's order, the class name of every image, [images]."""
    seed: int
    """The seed that was used: the same seed gives the same images from the same model."""
    model: str = ""
    """Name of the model that answered."""
    version: int = 0
    """Its version."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TraversalRow:
    """What one row of a traversal shows."""

    base: int
    """Position of the base that it starts from."""
    dimension: int | None
    """The dimension that changes; None where the class does."""
    values: FloatArray
    """The dimension's value in each column, [columns]; empty where the class changes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Traversal:
    """Images in which one latent dimension, or the class, changes along a row and all else stays."""

    images: ImageArray
    """uint8 [rows, columns, height, width, channels], at the model's size."""
    rows: tuple[TraversalRow, ...]
    """What each row shows: bases outermost, then dimensions."""
    class_names: tuple[str, ...]
    """The class of each column, where the class changes; else empty."""
    classes: Mapping[str, NDArray[np.str_]]
    """For each factor by name, the class of every base, [bases]."""
    seed: int | None = None
    """The seed of bases that were drawn."""
    model: str = ""
    """Name of the model that answered."""
    version: int = 0
    """Its version."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Transferred:
    """Images that join the z of some with the class-related u of others."""

    images: ImageArray
    """uint8 [contents, styles, height, width, channels]; of pairs [pairs, 1, height, width, channels]."""
    model: str = ""
    """Name of the model that answered."""
    version: int = 0
    """Its version."""
