"""Makes tables of the results of an extraction.

The columns are made of their buffers: `pyarrow.array` imports pandas, which takes longer than the features of thousands
of images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from partedvae.familiarity import FAMILIAR
from partedvae.results import Features, FloatArray
from partedvae.serving.extract.layout import SCORES, Layout, Rows
from partedvae.v1.manifest_pb2 import Factor

Mask = NDArray[np.bool_]


def table_of(rows: Rows, layout: Layout, schema: pa.Schema) -> pa.Table:
    """Return rows as a table.

    Args:
        rows: the results.
        layout: the columns.
        schema: `Layout.schema`, which costs more than the table.
    """
    columns = _Columns(rows, layout).all()
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


class _Columns:
    """Makes the columns of some rows, with nulls for images that could not be read."""

    def __init__(self, rows: Rows, layout: Layout) -> None:
        self._rows = rows
        self._layout = layout
        self._missing = np.array([error is not None for error in rows.errors], dtype=np.bool_)
        self._any_missing = bool(self._missing.any())
        self._validity = validity(self._missing)

    def all(self) -> dict[str, pa.Array]:
        """Return all columns by name."""
        layout, rows = self._layout, self._rows
        keys = strings([str(key) for key in rows.keys]) if layout.key == "path" else integers(rows.keys)
        errors = strings(rows.errors) if self._any_missing else pa.nulls(len(rows.errors), pa.string())
        columns = {layout.key: keys, "error": errors}
        if rows.columns is not None:
            columns |= {name: rows.columns[name].combine_chunks() for name in layout.columns.names}
        for k, factor in enumerate(layout.factors):
            columns |= self._factor(k, factor)
        features = rows.features
        if "u" in layout.include and layout.vectors:
            columns["u"] = self._vectors(None if features is None else features.u, layout.u_dim)
        if "z" in layout.include:
            z, z_dim = None if features is None else features.z, layout.manifest.z_dim
            if layout.vectors:
                columns["z"] = self._vectors(z, z_dim)
            else:
                columns |= self._numbers(z, [f"z{j}" for j in range(z_dim)])
        for name in SCORES:
            if name in layout.include:
                values = None if features is None else getattr(features, name)
                columns |= self._numbers(None if values is None else values[:, None], [name])
        if "unfamiliar" in layout.include:
            columns["unfamiliar"] = self._unfamiliar(features)
        return columns

    def _factor(self, k: int, factor: Factor) -> dict[str, pa.Array]:
        layout = self._layout
        result = None if self._rows.features is None else self._rows.features.factors[k]
        probs = None if result is None else result.probs
        columns: dict[str, pa.Array] = {}
        if "class" in layout.include:
            columns |= self._classes(probs, factor)
        if "u" in layout.include and not layout.vectors:
            u = None if result is None else result.u_mean
            columns |= self._numbers(u, [f"{factor.name}_u{j}" for j in range(factor.u_dim)])
        if "probs" in layout.include and layout.vectors:
            columns[f"{factor.name}_p"] = self._vectors(probs, len(factor.class_names))
        elif "probs" in layout.include:
            columns |= self._numbers(probs, [f"{factor.name}_p_{label}" for label in factor.class_names])
        return columns

    def _classes(self, probs: FloatArray | None, factor: Factor) -> dict[str, pa.Array]:
        """Return the most probable class and its probability."""
        spread = self._spread(probs, len(factor.class_names))
        if self._any_missing:
            spread[self._missing] = 0
        indices = np.argmax(spread, axis=1)
        best = spread[np.arange(len(spread)), indices]
        names = strings(factor.class_names).take(
            pa.Array.from_buffers(pa.int64(), len(indices), [self._validity, pa.py_buffer(indices)])
        )
        return {factor.name: names, f"{factor.name}_prob": floats(best, self._validity)}

    def _unfamiliar(self, features: Features | None) -> pa.Array:
        known = None if features is None else features.unfamiliar
        if known is None or not (unlike := np.flatnonzero(known != FAMILIAR)).size:
            return pa.nulls(len(self._missing), pa.string())
        texts: list[str | None] = [None] * len(self._missing)
        for position, k in zip(np.flatnonzero(~self._missing)[unlike].tolist(), unlike.tolist(), strict=True):
            texts[position] = str(known[k])
        return strings(texts)

    def _numbers(self, values: FloatArray | None, names: Sequence[str]) -> dict[str, pa.Array]:
        """Return a column per number of a matrix, [readable images, names]."""
        columns = np.ascontiguousarray(self._spread(values, len(names)).T)
        return {name: floats(column, self._validity) for name, column in zip(names, columns, strict=True)}

    def _vectors(self, values: FloatArray | None, size: int) -> pa.Array:
        """Return a column of the rows of a matrix, [readable images, size]."""
        return vectors(self._spread(values, size), self._validity)

    def _spread(self, values: FloatArray | None, width: int) -> FloatArray:
        """Insert the rows of readable images at their positions among all, [images, width]."""
        if values is not None and not self._any_missing:
            return np.ascontiguousarray(values, dtype=np.float32)
        spread = np.full((len(self._missing), width), np.nan, dtype=np.float32)
        if values is not None:
            spread[~self._missing] = values
        return spread


def integers(values: Sequence[int] | Sequence[str]) -> pa.Array:
    """Return a column of 64-bit integers."""
    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(np.array(values, dtype=np.int64))])


def floats(values: FloatArray, valid: pa.Buffer | None) -> pa.Array:
    """Return a column of numbers, [images]; `valid` is from `validity`."""
    return pa.Array.from_buffers(pa.float32(), len(values), [valid, pa.py_buffer(values)])


def vectors(matrix: FloatArray, valid: pa.Buffer | None) -> pa.Array:
    """Return a column of the rows of a matrix, [images, size]; `valid` is from `validity`."""
    count, size = matrix.shape
    numbers = floats(matrix.reshape(-1), None)
    return pa.Array.from_buffers(pa.list_(pa.float32(), size), count, [valid], children=[numbers])


def strings(texts: Sequence[str | None]) -> pa.Array:
    """Return a column of texts."""
    encoded = [b"" if text is None else text.encode("utf-8", "backslashreplace") for text in texts]
    offsets = np.zeros(len(texts) + 1, dtype=np.int32)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    valid = validity(np.array([text is None for text in texts], dtype=np.bool_))
    return pa.Array.from_buffers(
        pa.string(), len(texts), [valid, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    )


def validity(missing: Mask) -> pa.Buffer | None:
    """Return the bitmap of the values that are not missing; None if none is."""
    if not missing.any():
        return None
    return pa.py_buffer(np.packbits(~missing, bitorder="little"))
