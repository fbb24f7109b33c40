r"""Columns of the output of an extraction, and the rows that fill them.

In this order, as far as they are included: `path` or `index`, which is always there; columns of the input that are
passed on; per factor `<factor>` and `<factor>_prob`, the most probable class and its probability, `<factor>_u0` … and
`<factor>_p_<class>` …; then `z0` …, `negative_elbo`, `reconstruction_error`; `unfamiliar`, which says how an image
differs from the training images and is null if it does not; `error`, which says why an image could not be read and is
null if it could. The other columns are null if it could not. Bytes of a path that are not UTF-8 are written in
hexadecimal, `\xNN`.

With vectors, `<factor>_p` is a list of all classes, and after the factors `u` is one of the u of all factors side by
side, in the model's order, and `z` one of z; the lists have a fixed size and 32-bit floats.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import pyarrow as pa

from partedvae.common.suggest import did_you_mean
from partedvae.requests import FeatureName
from partedvae.results import Features
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.extract.sources.source import NO_COLUMNS
from partedvae.v1.manifest_pb2 import Factor, Manifest

Include = Literal["class", "probs", "u", "z", "negative_elbo", "reconstruction_error", "unfamiliar", "error"]
"""Values of --include."""
INCLUDE: tuple[Include, ...] = get_args(Include)
DEFAULT_INCLUDE: tuple[Include, ...] = ("class", "u", "unfamiliar", "error")
_OUTPUTS: dict[Include, FeatureName] = {
    "class": "probs",
    "probs": "probs",
    "u": "u_mean",
    "z": "z_mean",
    "negative_elbo": "negative_elbo",
    "reconstruction_error": "reconstruction_error",
    "unfamiliar": "unfamiliar",
}
"""What each needs of the model."""

SCORES: tuple[Include, ...] = ("negative_elbo", "reconstruction_error")
"""Columns of one number per image."""


def parse_include(names: Iterable[str]) -> tuple[Include, ...]:
    """Return the values of --include without doubles, in the order of the columns.

    Raises:
        InvalidInputError: one is unknown, or none needs the model.
    """
    given = list(names)
    for name in given:
        if name not in INCLUDE:
            raise InvalidInputError(
                f"--include has {name!r}, which is no column: choose from {','.join(INCLUDE)}"
                f"{did_you_mean(name, INCLUDE)}"
            )
    if not _OUTPUTS.keys() & set(given):
        raise InvalidInputError(f"--include has no feature; choose from {','.join(_OUTPUTS)}")
    return tuple(name for name in INCLUDE if name in given)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Columns of an output."""

    key: str
    """"path" or "index"."""
    manifest: Manifest
    """The model's."""
    include: tuple[Include, ...] = DEFAULT_INCLUDE
    """From `parse_include`."""
    vectors: bool = False
    """Whether u, z and probabilities are one column each, of lists, instead of one per number."""
    columns: pa.Schema = NO_COLUMNS
    """Columns of the input that are passed on, after the key."""

    @property
    def outputs(self) -> tuple[FeatureName, ...]:
        """The outputs to request from the model."""
        return tuple(dict.fromkeys(_OUTPUTS[name] for name in self.include if name in _OUTPUTS))

    @property
    def factors(self) -> Sequence[Factor]:
        """The model's factors."""
        return self.manifest.factors

    @property
    def u_dim(self) -> int:
        """Dimensions of the u of all factors together."""
        return sum(factor.u_dim for factor in self.factors)

    def schema(self) -> pa.Schema:
        """Return the columns.

        Raises:
            InvalidInputError: two columns have the same name.
        """
        fields = [pa.field(self.key, pa.string() if self.key == "path" else pa.int64(), nullable=False), *self.columns]
        for factor in self.factors:
            fields += self._factor_fields(factor)
        if self.vectors and "u" in self.include:
            fields.append(pa.field("u", _vector(self.u_dim)))
        if "z" in self.include:
            z_dim = self.manifest.z_dim
            numbers = [pa.field(f"z{j}", pa.float32()) for j in range(z_dim)]
            fields += [pa.field("z", _vector(z_dim))] if self.vectors else numbers
        fields += [pa.field(name, pa.float32()) for name in SCORES if name in self.include]
        fields += [pa.field(name, pa.string()) for name in ("unfamiliar", "error") if name in self.include]
        schema = pa.schema(fields)
        self.check_names(schema.names)
        return schema

    def check_names(self, names: Sequence[str]) -> None:
        """Check the names of the columns of a file.

        Args:
            names: in some formats there are others than those of `schema`.

        Raises:
            InvalidInputError: two columns have the same name.
        """
        for name, count in Counter(names).items():
            if count == 1:
                continue
            if name in self.columns.names:
                raise InvalidInputError(
                    f"the column {name!r} of the input has the name of a column of the output; rename it, or do not "
                    "pass it on"
                )
            raise InvalidInputError(
                f"two columns would be called {name!r}, since the model has a factor of that name; change --vectors or "
                "--include"
            )

    def _factor_fields(self, factor: Factor) -> list[pa.Field]:
        name = factor.name
        fields = []
        if "class" in self.include:
            fields += [pa.field(name, pa.string()), pa.field(f"{name}_prob", pa.float32())]
        if "u" in self.include and not self.vectors:
            fields += [pa.field(f"{name}_u{j}", pa.float32()) for j in range(factor.u_dim)]
        if "probs" in self.include:
            numbers = [pa.field(f"{name}_p_{label}", pa.float32()) for label in factor.class_names]
            fields += [pa.field(f"{name}_p", _vector(len(numbers)))] if self.vectors else numbers
        return fields


def _vector(size: int) -> pa.DataType:
    return pa.list_(pa.float32(), size)


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """The results of consecutive images."""

    keys: Sequence[str] | Sequence[int]
    """Path or index of every image."""
    errors: Sequence[str | None]
    """Why an image has no features; None if it has."""
    features: Features | None
    """Features of the images without error, in order; None if there are none."""
    columns: pa.Table | None = None
    """Values of `Layout.columns` of every image; None if there are no such columns."""
