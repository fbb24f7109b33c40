"""Finds the features among the columns of a file that `partedvae extract` has written.

The footer names the factors; without one, as in a CSV file, they are found by the names of their columns:
`<factor>` beside `<factor>_prob`, and `<factor>_u0`, `<factor>_u1` ….
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from partedvae.serving.extract.layout import SCORES
from partedvae.serving.extract.output.identity import PREFIX
from partedvae.serving.extract.output.vectors import vector_columns

KEYS = ("path", "index")
UNFAMILIAR, ERROR = "unfamiliar", "error"
MOST_PASSED_ON = 16
"""Columns of the input that are read; further ones are left out."""


@dataclass(frozen=True, kw_only=True)
class FactorColumns:
    """Columns of a factor."""

    name: str
    classes: tuple[str, ...] = ()
    """Names of the classes; empty if the file does not say them."""
    best: str | None = None
    """Column of the most probable class."""
    prob: str | None = None
    """Column of its probability."""
    probs: tuple[str, ...] = ()
    """Columns of the probabilities of all classes: one of lists, or one per class."""
    u: tuple[str, ...] = ()
    """Columns of u: one of lists, or one per number; empty where u is in one column for all factors."""
    u_dim: int | None = None
    """Dimensions of u, if the footer says them."""


@dataclass(frozen=True, kw_only=True)
class FeatureColumns:
    """Columns of a file."""

    key: str | None
    """"path" or "index"."""
    factors: tuple[FactorColumns, ...]
    u: tuple[str, ...]
    """Columns of the u of all factors: one of lists, one per number, or those of the factors; may be empty."""
    z: tuple[str, ...]
    """Columns of z; empty if there are none."""
    scores: tuple[str, ...]
    has_unfamiliar: bool
    has_error: bool
    passed_on: tuple[str, ...]
    """Columns of the input."""

    @property
    def names(self) -> list[str]:
        """The columns that are read."""
        of_factors = [
            name
            for f in self.factors
            for name in (f.best, f.prob, *(f.probs if f.best is None or f.prob is None else ()))
            if name is not None
        ]
        known = [name for name, there in ((UNFAMILIAR, self.has_unfamiliar), (ERROR, self.has_error)) if there]
        key = [self.key] if self.key is not None else []
        return [*key, *of_factors, *self.u, *self.z, *self.scores, *known, *self.passed_on]

    @property
    def numbers(self) -> list[str]:
        """The columns of numbers."""
        of_factors = [name for f in self.factors for name in (*([f.prob] if f.prob else []), *f.probs)]
        return [name for name in (*of_factors, *self.u, *self.z, *self.scores) if name in self.names]

    @property
    def texts(self) -> list[str]:
        """The columns of text, whose values a reader of CSV could take for numbers."""
        best = [f.best for f in self.factors if f.best is not None]
        return [*best, *(name for name in ("path", UNFAMILIAR, ERROR) if name in self.names)]


def find_columns(names: Sequence[str], metadata: Mapping[str, str]) -> FeatureColumns:
    """Return the columns of a file.

    Args:
        names: of all its columns.
        metadata: texts of its footer, with their prefix; may be empty.
    """
    present = set(names)
    given = json.loads(metadata.get(f"{PREFIX}factors", "[]"))
    factors = [_of_footer(each, names) for each in given] or [_of_names(name, names) for name in _factors(names)]
    u = vector_columns("u", names) or tuple(name for f in factors for name in f.u)
    z = vector_columns("z", names)
    scores = tuple(name for name in SCORES if name in present)
    key = next((name for name in KEYS if name in present), None)
    recognised = {key, *u, *z, *scores, UNFAMILIAR, ERROR, "metadata"}
    for f in factors:
        recognised |= {f.best, f.prob, *f.probs, *f.u, f"{f.name}_class_names"}
    listed = metadata.get(f"{PREFIX}columns")
    others = [name for name in names if name not in recognised]
    # A column whose name has a comma is not found in the list.
    passed_on = others if listed is None else [name for name in others if name in listed.split(",")]
    return FeatureColumns(
        key=key,
        factors=tuple(factors),
        u=u,
        z=z,
        scores=scores,
        has_unfamiliar=UNFAMILIAR in present,
        has_error=ERROR in present,
        passed_on=tuple(passed_on[:MOST_PASSED_ON]),
    )


def _of_footer(factor: Mapping[str, object], names: Sequence[str]) -> FactorColumns:
    classes, u_dim = factor["classes"], factor["u_dim"]
    assert isinstance(classes, list)
    assert isinstance(u_dim, int)
    return _of_names(str(factor["name"]), names, tuple(map(str, classes)), u_dim)


def _of_names(
    name: str, names: Sequence[str], classes: tuple[str, ...] = (), u_dim: int | None = None
) -> FactorColumns:
    has_best = name in names and f"{name}_prob" in names
    start = f"{name}_p_"
    if not classes:
        classes = tuple(each.removeprefix(start) for each in names if each.startswith(start))
    probs = (f"{name}_p",) if f"{name}_p" in names else tuple(f"{start}{label}" for label in classes)
    return FactorColumns(
        name=name,
        classes=classes,
        best=name if has_best else None,
        prob=f"{name}_prob" if has_best else None,
        probs=probs if probs and all(each in names for each in probs) else (),
        u=vector_columns(f"{name}_u", names),
        u_dim=u_dim,
    )


def _factors(names: Sequence[str]) -> list[str]:
    """Return the factors that the names of columns imply, in the order of the columns."""
    found = []
    for name in names:
        if f"{name}_prob" in names:
            found.append(name)
        elif match := re.fullmatch(r"(.+)_(?:u|u0|p)", name):
            found.append(match[1])
    return list(dict.fromkeys(found))
