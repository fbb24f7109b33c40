"""Features of all images of a source, from a file that `partedvae extract` has written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from partedvae.results import FloatArray
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.extract.layout import Include
from partedvae.serving.extract.output.feature_files import read_footer, read_tables
from partedvae.serving.extract.output.identity import PREFIX
from partedvae.serving.extract.output.vectors import matrix_of, vector_columns

INCLUDE: tuple[Include, ...] = ("class", "probs", "u", "z", "error")
"""Columns of a file that has all that is used here; one without z or probs is read too."""
FEATURES_RECIPE = "features"
"""Recipe of training by which the directions of u tell images apart."""
SUFFIXES = (".parquet", ".arrow")


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageFeatures:
    """Features of images, in the order of their source."""

    keys: Sequence[str]
    """Path or index of every image."""
    latents: FloatArray
    """Of which near ones are of alike images: u of all factors and z side by side [images, u_dim + z_dim], or the
    directions of u [images, u_dim]; NaN for images that could not be read."""
    classes: dict[str, tuple[str, ...]]
    """Names of the classes of every factor."""
    probs: dict[str, FloatArray]
    """Probabilities of the classes by factor [images, classes]; empty for a file without them."""
    trained: bool = True
    """Whether the model was trained with labels, so that its probabilities mean something."""

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.keys)

    @property
    def readable(self) -> NDArray[np.bool_]:
        """Whether each image could be read [images]."""
        sums: FloatArray = self.latents.sum(axis=1)
        return np.isfinite(sums)


def read_features(path: Path) -> ImageFeatures:
    """Read a file of features.

    Args:
        path: a .parquet or .arrow file of `partedvae extract`.

    Raises:
        InvalidInputError: it is not such a file, or has no u.
        OSError: it cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InvalidInputError(f"{path} is not read; pass a file of 'partedvae extract' in {' or '.join(SUFFIXES)}")
    with path.open("rb") as file:
        footer = read_footer(suffix, file)
        if footer is None or f"{PREFIX}factors" not in footer.metadata:
            raise InvalidInputError(f"{path} is damaged, or was not written by 'partedvae extract'; {_REMEDY}")
        file.seek(0)
        factors = json.loads(footer.metadata[f"{PREFIX}factors"])
        directions = footer.metadata.get(f"{PREFIX}recipe") == FEATURES_RECIPE
        parts = [_read(path, table, factors, directions) for table in read_tables(suffix, file) if len(table)]
    if not parts:
        raise InvalidInputError(f"{path} has no rows; extract features of some images")
    return ImageFeatures(
        keys=[key for part in parts for key in part.keys],
        latents=np.concatenate([part.latents for part in parts]),
        classes=parts[0].classes,
        probs={name: np.concatenate([part.probs[name] for part in parts]) for name in parts[0].probs},
        trained=footer.metadata.get(f"{PREFIX}labels_used") != "0",
    )


_REMEDY = f"extract it again with --include {','.join(INCLUDE)}"


def _read(path: Path, table: pa.Table, factors: Sequence[dict[str, object]], directions: bool) -> ImageFeatures:
    classes = {str(factor["name"]): tuple(map(str, _list(factor["classes"]))) for factor in factors}
    key = next((name for name in ("path", "index") if name in table.column_names), None)
    names = table.column_names
    of_factors = [vector_columns(f"{name}_u", names) for name in classes]
    of_all = vector_columns("u", names)
    u = of_all or tuple(name for columns in of_factors for name in columns)
    z = vector_columns("z", names)
    # A model without factors has no u, and z alone.
    if key is None or not (of_all or all(of_factors)) or not (u or z):
        raise InvalidInputError(f"{path} has no column of {'keys' if key is None else 'u'}; {_REMEDY}")
    probs = {}
    for name, labels in classes.items():
        columns = vector_columns(f"{name}_p", names) or tuple(f"{name}_p_{label}" for label in labels)
        if set(columns) <= set(names):
            probs[name] = matrix_of(table, columns)
    return ImageFeatures(
        keys=[str(value) for value in table[key].to_pylist()],
        latents=_directions(matrix_of(table, u)) if directions and u else matrix_of(table, [*u, *z]),
        classes=classes,
        probs=probs,
    )


def _directions(u: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(u, axis=1, keepdims=True)
    directions: FloatArray = u / np.maximum(lengths, np.finfo(np.float32).tiny)
    return directions


def _list(value: object) -> Sequence[object]:
    assert isinstance(value, list)
    return value
