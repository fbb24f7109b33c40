"""The true labels of the images of a feature file, read from beside them, so that the map shows wrong predictions."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from partedvae.common.data_error import DataError
from partedvae.common.dataset_files import IDX_IMAGES, IDX_LABELS
from partedvae.common.labels_file import Labels, LabelsFile
from partedvae.common.urls import without_file_scheme
from partedvae.serving.explore.features.table import Categories, FeatureTable
from partedvae.serving.explore.features.values import MOST_VALUES, categories_of
from partedvae.serving.extract.sources.keys import PathKeys
from partedvae.serving.extract.sources.options import path_style_of

LABEL = "label"
"""Name of the column."""
_HEADER = bytes((0, 0, 8, 1))
"""Start of an IDX file of one byte per label; then their number as a big-endian uint32."""
_MOST = 2**28
"""Bytes of a file that are unpacked; a small file could hold any number."""


def with_known_labels(table: FeatureTable, given: str, data_dir: Path) -> FeatureTable:
    """Return the features with the labels of their images as columns, where they are known.

    Those of MNIST, or of a set in its format, are the column `label`; those of the labels.csv of a folder have the
    names of its factors. A labels.csv that cannot be read is a remark among the notes.

    Args:
        table: the features.
        given: INPUT of the extraction: the name of the data set and its split, its file of images, or a folder.
        data_dir: folder of the registered data sets.
    """
    folder = Path(without_file_scheme(given)) if given else None
    if folder is not None and table.key == "path" and folder.is_dir():
        return _with_table_labels(table, given, folder)
    return _with_idx_labels(table, given, data_dir)


def _with_table_labels(table: FeatureTable, given: str, folder: Path) -> FeatureTable:
    """Add the columns of the labels.csv of a folder."""
    try:
        labels = LabelsFile(folder, ()).read()
    except (DataError, OSError) as error:
        return replace(table, notes=[*table.notes, f"labels are not shown: {error}"])
    keys = PathKeys(style=path_style_of(table.footer("path_style")), given=given, folder=str(folder))
    names = {keys.of(name): name for name in labels.values}
    files = [names.get(key, "") for key in table.keys.to_pylist()]
    categories = dict(table.categories)
    for factor in labels.factors:
        found = _categories(table, labels, factor, files)
        if found is not None:
            categories[factor if factor not in categories else f"{factor} of labels.csv"] = found
    return replace(table, categories=categories)


def _categories(table: FeatureTable, labels: Labels, factor: str, files: Sequence[str]) -> Categories | None:
    """Return the labels of the points; None if no point has one, or there are too many classes for a legend."""
    of_points = [labels.class_of(file, factor) for file in files]
    values = labels.classes(factor)
    for predicted in table.factors:
        # In the order of the model's classes, so that both have the same colours.
        if predicted.name == factor and predicted.classes is not None and set(values) <= set(predicted.classes.values):
            values = predicted.classes.values
    if not any(of_points) or len(values) > MOST_VALUES:
        return None
    return categories_of(pa.chunked_array([of_points], pa.string()), values)


def _with_idx_labels(table: FeatureTable, given: str, data_dir: Path) -> FeatureTable:
    """Add the labels of an IDX file, if the model has one factor."""
    path = _path_of(given, data_dir)
    if path is None or len(table.factors) != 1 or table.factors[0].classes is None:
        return table
    values = table.factors[0].classes.values
    labels = _read(path)
    if labels is None or labels.max(initial=0) >= len(values) or table.rows[-1] >= len(labels):
        return table
    codes = labels[table.rows].astype(np.int32)
    name = LABEL if LABEL not in table.categories else f"{LABEL} of the data set"
    return replace(table, categories={**table.categories, name: Categories(values=values, codes=codes)})


def _path_of(given: str, data_dir: Path) -> Path | None:
    """Return the file of labels of a data set; None for other inputs."""
    name, _, split = given.partition(":")
    if split in IDX_LABELS:
        return data_dir / name / IDX_LABELS[split]
    for split, images in IDX_IMAGES.items():
        if Path(given).name in (images, f"{images}.gz"):
            return Path(given).with_name(IDX_LABELS[split])
    return None


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
