r"""Feature files: one row per image, as Parquet (written in row groups) or NumPy's .npz.

Parquet columns: `path` or `index`; per factor `<factor>` (class name), `<factor>_prob`, `<factor>_u0`… and, if
requested, `<factor>_p_<class>`…; then `z0`…, if requested; then, if the model knows the range of its scores,
`unfamiliar`, which says how an image differs from the training images and is null if it does not; then `error`, which
is null if the image could be read. The other columns are null if it could not. Bytes of a path that are not UTF-8 are
written in hexadecimal, `\xNN`.

The .npz has the same data as arrays: `path` or `index`, `<factor>`, `<factor>_prob`, `<factor>_u` [images, u_dim],
`<factor>_p` [images, classes] with `<factor>_class_names`, `z` [images, z_dim], `unfamiliar`, `error`. Null values are
NaN or "".

Both identify the model: the Parquet schema's metadata and the .npz's `metadata` (JSON) have `partedvae.model`,
`partedvae.version`, `partedvae.manifest_sha256` and `partedvae.encoder_sha256`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from partedvae.familiarity import FAMILIAR, INVERTED
from partedvae.requests import FeatureName
from partedvae.results import Features, FloatArray
from partedvae.serving.bundle import ENCODER_FILE
from partedvae.serving.extract.sources.source import NO_COLUMNS
from partedvae.v1.manifest_pb2 import Manifest


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Columns of a feature file."""

    key: str
    """"path" or "index"."""
    manifest: Manifest
    """The model's."""
    probs: bool = False
    """Whether to include the probabilities of all classes."""
    z: bool = False
    """Whether to include z."""
    columns: pa.Schema = NO_COLUMNS
    """Columns of the input that are passed on, after the key."""
    unfamiliar: bool = False
    """Whether to include how images differ from the training images."""
    metadata: Mapping[str, str]
    """Identifies the model; see `model_metadata`."""

    @property
    def include(self) -> tuple[FeatureName, ...]:
        """The outputs to request from the model."""
        optional: dict[FeatureName, bool] = {"z_mean": self.z, "unfamiliar": self.unfamiliar}
        return ("probs", "u_mean", *(name for name, included in optional.items() if included))


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


def model_metadata(name: str, version: int, manifest: Manifest) -> dict[str, str]:
    """Return metadata that identify the model. The hashes do not depend on whether the manifest came from a server."""
    return {
        "partedvae.model": name,
        "partedvae.version": str(version),
        "partedvae.manifest_sha256": hashlib.sha256(manifest.SerializeToString(deterministic=True)).hexdigest(),
        "partedvae.encoder_sha256": next(file.sha256 for file in manifest.files if file.name == ENCODER_FILE),
    }


def schema_of(layout: Layout) -> pa.Schema:
    """Return the columns of a Parquet file."""
    fields = [
        pa.field(layout.key, pa.string() if layout.key == "path" else pa.int64(), nullable=False),
        *layout.columns,
    ]
    for factor in layout.manifest.factors:
        fields += [pa.field(factor.name, pa.string()), pa.field(f"{factor.name}_prob", pa.float32())]
        fields += [pa.field(f"{factor.name}_u{j}", pa.float32()) for j in range(factor.u_dim)]
        if layout.probs:
            fields += [pa.field(f"{factor.name}_p_{name}", pa.float32()) for name in factor.class_names]
    if layout.z:
        fields += [pa.field(f"z{j}", pa.float32()) for j in range(layout.manifest.z_dim)]
    if layout.unfamiliar:
        fields.append(pa.field("unfamiliar", pa.string()))
    return pa.schema([*fields, pa.field("error", pa.string())], metadata=dict(layout.metadata))


def columns_of(rows: Rows, layout: Layout) -> dict[str, Any]:
    """Return one value per image for every Parquet column."""
    matrices = matrices_of(rows, layout)
    columns: dict[str, Any] = {layout.key: rows.keys, "error": rows.errors}
    if rows.columns is not None:
        columns |= {name: rows.columns[name] for name in layout.columns.names}
    for factor in layout.manifest.factors:
        columns[factor.name] = matrices[factor.name]
        columns[f"{factor.name}_prob"] = matrices[f"{factor.name}_prob"]
        columns |= {f"{factor.name}_u{j}": matrices[f"{factor.name}_u"][:, j] for j in range(factor.u_dim)}
        if layout.probs:
            probs = matrices[f"{factor.name}_p"]
            columns |= {f"{factor.name}_p_{name}": probs[:, j] for j, name in enumerate(factor.class_names)}
    if layout.z:
        columns |= {f"z{j}": matrices["z"][:, j] for j in range(layout.manifest.z_dim)}
    if layout.unfamiliar:
        columns["unfamiliar"] = matrices["unfamiliar"]
    return columns


def matrices_of(rows: Rows, layout: Layout) -> dict[str, NDArray[Any]]:
    """Return the arrays of the .npz for some rows: values of readable images, and NaN and "" for the others."""
    good = np.array([error is None for error in rows.errors])
    arrays: dict[str, NDArray[Any]] = {layout.key: np.array(rows.keys)}
    for k, factor in enumerate(layout.manifest.factors):
        result = rows.features.factors[k] if rows.features else None
        probs = _spread(result.probs if result else None, good, len(factor.class_names))
        indices = np.argmax(np.nan_to_num(probs), axis=1)
        arrays[factor.name] = np.where(good, np.array(factor.class_names)[indices], "")
        arrays[f"{factor.name}_prob"] = probs[np.arange(len(good)), indices]
        arrays[f"{factor.name}_u"] = _spread(result.u_mean if result else None, good, factor.u_dim)
        if layout.probs:
            arrays[f"{factor.name}_p"] = probs
    if layout.z:
        arrays["z"] = _spread(rows.features.z if rows.features else None, good, layout.manifest.z_dim)
    if layout.unfamiliar:
        texts = np.full(len(good), FAMILIAR, dtype=f"<U{len(INVERTED)}")
        if rows.features is not None and rows.features.unfamiliar is not None:
            texts[good] = rows.features.unfamiliar
        arrays["unfamiliar"] = texts
    arrays["error"] = np.array([error or "" for error in rows.errors])
    return arrays


def _spread(values: FloatArray | None, good: NDArray[np.bool_], width: int) -> FloatArray:
    """Insert the rows of readable images at their positions among all, [images, width]."""
    spread = np.full((len(good), width), np.nan, dtype=np.float32)
    if values is not None:
        spread[good] = values
    return spread
