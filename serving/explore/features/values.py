"""Converts the columns of a table of features to arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from partedvae.results import FloatArray
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.explore.features.columns import UNFAMILIAR, FactorColumns, FeatureColumns
from partedvae.serving.explore.features.table import MISSING, Categories, FactorFeatures, FeatureTable, Rows
from partedvae.serving.explore.integers import integer_of
from partedvae.serving.extract.output.vectors import matrix_of, numbers_of

MOST_VALUES = 64
"""Different values of a column that is a legend."""
FAMILIAR, UNLIKE = "like the training images", "unlike the training images"


def features_of_table(
    source: str,
    table: pa.Table,
    rows: Rows,
    columns: FeatureColumns,
    metadata: Mapping[str, str],
    notes: Sequence[str],
) -> FeatureTable:
    """Return the features of the rows that have some.

    Args:
        source: path or URL of the file.
        table: the columns of some rows.
        rows: row of the input of each.
        columns: what the columns are.
        metadata: texts of the file's footer.
        notes: remarks on the file that the page shows.

    Raises:
        InvalidInputError: no row has features.
    """
    u, z = _vectors(table, columns.u), _vectors(table, columns.z)
    if u is None and z is None:
        raise InvalidInputError(f"{source} has neither u nor z: its model has no dimensions of either")
    readable = np.ones(len(table), dtype=np.bool_)
    for matrix in (u, z):
        if matrix is not None:
            readable &= np.isfinite(matrix).all(axis=1)
    left_out = len(table) - int(readable.sum())
    if left_out == len(table):
        raise InvalidInputError(f"{source} has no row with features: none of its images could be read")
    if left_out:
        notes = [*notes, f"{left_out:,} {'rows have' if left_out > 1 else 'row has'} no features and cannot be shown"]
        kept = pa.array(np.flatnonzero(readable))
        table, rows = table.take(kept), rows[readable]
        u, z = (None if matrix is None else matrix[readable] for matrix in (u, z))
    categories = {name: found for name in columns.passed_on if (found := _few_values(table[name])) is not None}
    scores = {name: numbers_of(table, name) for name in columns.scores}
    for name in columns.passed_on:
        if name not in categories and (numbers := _as_numbers(table[name])) is not None:
            scores[name] = numbers
    if columns.has_unfamiliar:
        unlike = np.asarray(pc.not_equal(_texts(table[UNFAMILIAR]), "").to_numpy())
        categories[UNFAMILIAR] = Categories(values=(FAMILIAR, UNLIKE), codes=unlike.astype(np.int32))
    return FeatureTable(
        source=source,
        metadata=metadata,
        rows=rows,
        keys=table[columns.key].combine_chunks() if columns.key else pa.array(rows),
        key=columns.key or "index",
        factors=_factors(table, columns, 0 if u is None else u.shape[1]),
        u=u,
        z=z,
        scores=scores,
        categories=categories,
        notes=notes,
    )


def _factors(table: pa.Table, columns: FeatureColumns, u_dim: int) -> list[FactorFeatures]:
    dims = [f.u_dim if f.u_dim is not None else _width(table, f.u) if f.u else None for f in columns.factors]
    known = None not in dims and sum(dim or 0 for dim in dims) == u_dim
    factors, first = [], 0
    for f, dim in zip(columns.factors, dims, strict=True):
        last = first + (dim or 0) if known else first
        classes, confidence = _classes(table, f)
        factors.append(FactorFeatures(name=f.name, classes=classes, confidence=confidence, u=slice(first, last)))
        first = last
    return factors


def _classes(table: pa.Table, f: FactorColumns) -> tuple[Categories | None, FloatArray | None]:
    """Return the most probable class of a factor and its probability; None for what the file lacks."""
    if f.best is not None and f.prob is not None:
        return categories_of(_texts(table[f.best]), f.classes), numbers_of(table, f.prob)
    if not f.probs:
        return None, None
    probs = matrix_of(table, f.probs)
    names = f.classes if len(f.classes) == probs.shape[1] else tuple(map(str, range(probs.shape[1])))
    return Categories(values=names, codes=probs.argmax(axis=1).astype(np.int32)), probs.max(axis=1)


def categories_of(texts: pa.ChunkedArray, values: Sequence[str] = ()) -> Categories:
    """Return a column of text as categories.

    Args:
        texts: the column; "" is a missing value.
        values: the values in their order; by default those of the column, numbers by size and before other texts.
    """
    if not values:
        found = [value for value in pc.unique(texts).to_pylist() if value]
        numbers = {text: integer_of(text) for text in found}
        values = sorted(found, key=lambda text: (numbers[text] is None, numbers[text] or 0, text))
    codes = pc.fill_null(pc.index_in(texts, value_set=pa.array(values, pa.string())), MISSING)
    return Categories(values=tuple(values), codes=codes.to_numpy().astype(np.int32))


def _few_values(column: pa.ChunkedArray) -> Categories | None:
    """Return a column as categories; None if it has too many values, or only one."""
    if not (pa.types.is_string(column.type) or pa.types.is_integer(column.type) or pa.types.is_boolean(column.type)):
        return None
    texts = _texts(column)
    different = len(pc.unique(texts))
    return categories_of(texts) if 1 < different <= MOST_VALUES else None


def _as_numbers(column: pa.ChunkedArray) -> FloatArray | None:
    """Return a column as numbers, NaN where it has none; None if it has others than numbers."""
    try:
        empty = pc.equal(column, "") if pa.types.is_string(column.type) else pa.scalar(False)
        numbers = pc.cast(pc.if_else(empty, pa.scalar(None, column.type), column), pa.float32())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    return np.asarray(numbers.to_numpy(), dtype=np.float32)


def _texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column as text, with "" for null."""
    return pc.fill_null(pc.cast(column, pa.string()), "")


def _vectors(table: pa.Table, names: Sequence[str]) -> FloatArray | None:
    """Return vectors as a matrix; None where there are none, or they have no dimensions."""
    matrix = matrix_of(table, names)
    return matrix if matrix.shape[1] else None


def _width(table: pa.Table, names: Sequence[str]) -> int:
    """Return the dimensions of a vector."""
    kind = table.schema.field(names[0]).type
    return int(kind.list_size) if pa.types.is_fixed_size_list(kind) else len(names)
