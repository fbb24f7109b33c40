"""The true labels of the images of a feature file, read from their folder, so that the map shows wrong predictions."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from partedvae.common.dataset_files import IDX_IMAGES, IDX_LABELS
from partedvae.serving.explore.features.table import Categories, FeatureTable

LABEL = "label"
"""Name of the column."""
_HEADER = bytes((0, 0, 8, 1))
"""Start of an IDX file of one byte per label; then their number as a big-endian uint32."""


_MOST = 2**28
"""Bytes of a file that are unpacked; a small file could hold any number."""


def with_known_labels(table: FeatureTable, given: str, data_dir: Path) -> FeatureTable:
    """Return the features with the labels of their data set as a column, if it is MNIST or a set in its format.

    Args:
        table: the features, of a model of one factor.
        given: INPUT of the extraction: the name of the data set and its split, or its file of images.
        data_dir: folder of the registered data sets.
    """
    path = _path_of(given, data_dir)
    if path is None or len(table.factors) != 1 or table.factors[0].classes is None:
        return table
    values = table.factors[0].classes.values
    labels = _read(path)
    if labels is None or labels.max(initial=0) >= len(values) or table.rows[-1] >= len(labels):
        return table
    codes = labels[table.rows].astype(np.int32)
    categories: Mapping[str, Categories] = {
        **table.categories,
        _free_name(table): Categories(values=values, codes=codes),
    }
    return replace(table, categories=categories)


def _path_of(given: str, data_dir: Path) -> Path | None:
    """Return the file of labels of a data set; None for other inputs."""
    name, _, split = given.partition(":")
    if split in IDX_LABELS:
        return data_dir / name / IDX_LABELS[split]
    for split, images in IDX_IMAGES.items():
        if Path(given).name in (images, f"{images}.gz"):
            return Path(given).with_name(IDX_LABELS[split])
    return None


def _free_name(table: FeatureTable) -> str:
    return LABEL if LABEL not in table.categories else f"{LABEL} of the data set"


def _read(path: Path) -> np.ndarray[tuple[int], np.dtype[np.uint8]] | None:
    """Return the labels of an IDX file, or of that file with .gz; None if there is none, or it is of another kind."""
    try:
        content = path.read_bytes() if path.exists() else _unpacked(path.with_name(f"{path.name}.gz"))
    except (OSError, EOFError, zlib.error):
        return None
    if not content.startswith(_HEADER) or len(content) < 8:
        return None
    return np.frombuffer(content, dtype=np.uint8, offset=8)


def _unpacked(path: Path) -> bytes:
    with gzip.open(path) as file:
        return file.read(_MOST)
