"""Check of the factor names in labels.csv, which become column names of feature files (`partedvae extract`).

A feature file has a column `<factor>`, others that begin with the name of the factor, and columns that belong to no
factor. Without this check, two columns of the same name would fail only when a trained model writes the file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from partedvae.common.data_error import DataError


class Factor(Protocol):
    """A factor and its classes."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of its classes."""


OWN = frozenset(
    {
        *("path", "index", "error", "metadata", "u", "z", "unfamiliar", "allow_pickle"),
        *("position", "reconstruction_error", "negative_elbo"),
    }
)
"""Columns of feature files and of `Features.to_pandas` that belong to no factor, and an option of NumPy's savez."""
OWN_Z = re.compile(r"z(_logvar)?\d+")


def check_column_names(path: Path, factors: Sequence[Factor]) -> None:
    """Check that no two columns of a feature file would have the same name.

    Args:
        path: path of labels.csv, for the error message.
        factors: the factors, in the order of its columns.

    Raises:
        DataError: two would have; the message names the factors.
    """
    for factor in factors:
        if factor.name in OWN or OWN_Z.fullmatch(factor.name):
            raise DataError(
                f"{path}, line 1: a factor cannot be called {factor.name!r}, as feature files have a column of that "
                "name; rename the column"
            )
    for one in factors:
        for other in factors:
            shared = _shared(one, other) if one is not other else None
            if shared is not None:
                raise DataError(
                    f"{path}, line 1: the factors {one.name!r} and {other.name!r} would both have a column {shared!r} "
                    "in feature files; rename one of them"
                )


def _shared(one: Factor, other: Factor) -> str | None:
    """Return a column that both factors would have, for any number of dimensions of u."""
    names = set(_names(one))
    u = re.compile(re.escape(one.name) + r"_u(_logvar)?\d*")
    return next((name for name in _names(other) if name in names or u.fullmatch(name)), None)


def _names(factor: Factor) -> list[str]:
    """Return the columns of a factor, except those of u."""
    ends = ["", "_prob", "_p", "_class_names", *(f"_p_{name}" for name in factor.classes)]
    return [factor.name + end for end in ends]
