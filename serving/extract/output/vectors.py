"""Vectors in the columns of a table of features: one column of lists, or one column per number."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from partedvae.results import FloatArray


def vector_columns(start: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of a vector: that of lists, or `<start>0`, `<start>1` … in the order of their numbers.

    Args:
        start: name of the vector: "z".
        names: of all columns of the table.
    """
    if start in names:
        return (start,)
    found = {int(match[1]): name for name in names if (match := re.fullmatch(rf"{re.escape(start)}(\d+)", name))}
    return tuple(found[number] for number in range(len(found)) if number in found)


def matrix_of(table: pa.Table, names: Sequence[str]) -> FloatArray:
    """Return columns of lists of a fixed size and of numbers side by side [rows, numbers], with NaN for null.

    Args:
        table: the table.
        names: of these columns; without any, the matrix has no columns.
    """
    parts: list[FloatArray] = [np.empty((len(table), 0), dtype=np.float32)]
    for name in names:
        column = table[name].combine_chunks()
        if pa.types.is_fixed_size_list(column.type):
            size = column.type.list_size
            there = column.is_valid().to_numpy(zero_copy_only=False)
            # `flatten` leaves out the lists that are null.
            matrix = np.full((len(column), size), np.nan, dtype=np.float32)
            matrix[there] = column.flatten().to_numpy(zero_copy_only=False).reshape(int(there.sum()), size)
            parts.append(matrix)
        else:
            parts.append(numbers_of(table, name)[:, np.newaxis])
    return np.ascontiguousarray(np.concatenate(parts, axis=1), dtype=np.float32)


def numbers_of(table: pa.Table, name: str) -> FloatArray:
    """Return a column of numbers [rows], with NaN for null."""
    return np.asarray(pc.cast(table[name], pa.float32()).to_numpy(), dtype=np.float32)
