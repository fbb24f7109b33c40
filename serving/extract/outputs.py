"""Feature files: a row an image, as Parquet (written in row groups as they come) or NumPy's .npz.

Parquet columns: `path` or `index`; for each factor `<factor>` (class name), `<factor>_prob`, `<factor>_u0`… and, when
asked for, `<factor>_p_<class>`…; then `z0`… when asked for; then `error`, null where the image could be read. The other
columns are null where it could not.

The .npz holds the same as arrays: `path` or `index`, `<factor>`, `<factor>_prob`, `<factor>_u` [images, u_dim],
`<factor>_p` [images, classes] with `<factor>_class_names`, `z` [images, z_dim], `error`. What would be null is NaN or
an empty string.

Both say which model made them: the Parquet schema's metadata and the .npz's `metadata` (JSON) have `partedvae.model`,
`partedvae.version`, `partedvae.manifest_sha256` and `partedvae.encoder_sha256`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from partedvae.common.atomic_write import atomic_write
from partedvae.results import Features, FloatArray
from partedvae.serving.bundle import ENCODER_FILE
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.operations.features import Output
from partedvae.v1.manifest_pb2 import Manifest

ROW_GROUP = 65_536
"""Rows of a Parquet row group: large enough to read fast, small enough to hold in memory while it fills."""
SUFFIXES = (".parquet", ".npz")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a feature file holds."""

    key: str
    """"path" or "index"."""
    manifest: Manifest
    """The model's."""
    probs: bool = False
    """Whether to hold the probabilities of all classes."""
    z: bool = False
    """Whether to hold z."""
    metadata: Mapping[str, str]
    """Which model made it."""

    @property
    def include(self) -> tuple[Output, ...]:
        """What to ask the model for."""
        return ("probs", "u_mean", "z_mean") if self.z else ("probs", "u_mean")


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """The results of some consecutive images."""

    keys: Sequence[str] | Sequence[int]
    """Path or index of every image."""
    errors: Sequence[str | None]
    """Why an image has no features, None where it has."""
    features: Features | None
    """Of the images without error, in order; None where there are none."""


class FeatureFile(Protocol):
    """A file that takes rows."""

    def write(self, rows: Rows) -> None:
        """Append rows."""

    def finish(self) -> None:
        """Write what is still held."""

    def close(self) -> None:
        """Let the file go, finished or not."""


def model_metadata(name: str, version: int, manifest: Manifest) -> dict[str, str]:
    """Tell which model made the features. The hashes are the same whether a server or a folder gave the manifest."""
    return {
        "partedvae.model": name,
        "partedvae.version": str(version),
        "partedvae.manifest_sha256": hashlib.sha256(manifest.SerializeToString(deterministic=True)).hexdigest(),
        "partedvae.encoder_sha256": next(file.sha256 for file in manifest.files if file.name == ENCODER_FILE),
    }


def check_suffix(path: Path) -> None:
    """Refuse an output that is neither kind of file, before any work.

    Raises:
        InvalidInputError: the suffix is another.
    """
    if path.suffix not in SUFFIXES:
        raise InvalidInputError(f"the output {str(path)!r} has to end in {' or '.join(SUFFIXES)}")


@contextmanager
def create(path: Path, layout: Layout) -> Iterator[FeatureFile]:
    """Give a feature file to write into. It appears at `path` when the block ends well, and not at all otherwise."""
    check_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        file: FeatureFile = (ParquetFile if path.suffix == ".parquet" else NpzFile)(temporary, layout)
        try:
            yield file
            file.finish()
        finally:
            file.close()


class ParquetFile:
    """Writes row groups as they fill."""

    def __init__(self, path: Path, layout: Layout) -> None:
        """Create the file."""
        self._layout = layout
        self._schema = _schema(layout)
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._held: list[pa.Table] = []

    def write(self, rows: Rows) -> None:
        """Append rows."""
        columns = _columns(rows, self._layout)
        missing = np.array([error is not None for error in rows.errors])
        arrays = []
        for field in self._schema:
            values = columns[field.name]
            mask = None if field.name in (self._layout.key, "error") else missing
            arrays.append(pa.array(values, type=field.type, mask=mask))
        self._held.append(pa.Table.from_arrays(arrays, schema=self._schema))
        if sum(len(table) for table in self._held) >= ROW_GROUP:
            table = pa.concat_tables(self._held)
            self._writer.write_table(table.slice(0, ROW_GROUP))
            self._held = [table.slice(ROW_GROUP)]

    def finish(self) -> None:
        """Write the last row group."""
        if self._held:
            self._writer.write_table(pa.concat_tables(self._held))

    def close(self) -> None:
        """Write the footer and close the file."""
        self._writer.close()


class NpzFile:
    """Gathers columns and writes them at the end: the format cannot be appended to."""

    def __init__(self, path: Path, layout: Layout) -> None:
        """Remember where to write."""
        self._path = path
        self._layout = layout
        self._parts: dict[str, list[NDArray[Any]]] = {}

    def write(self, rows: Rows) -> None:
        """Append rows."""
        for name, values in _matrices(rows, self._layout).items():
            self._parts.setdefault(name, []).append(values)

    def finish(self) -> None:
        """Write the file."""
        arrays: dict[str, Any] = {name: np.concatenate(parts) for name, parts in self._parts.items()}
        if self._layout.probs:
            arrays |= {f"{f.name}_class_names": np.array(f.class_names) for f in self._layout.manifest.factors}
        arrays["metadata"] = np.array(json.dumps(dict(self._layout.metadata)))
        with self._path.open("wb") as file:  # given a name, NumPy would append .npz to it
            np.savez(file, **arrays)

    def close(self) -> None:
        """Nothing is open between writes."""


def _schema(layout: Layout) -> pa.Schema:
    fields = [pa.field(layout.key, pa.string() if layout.key == "path" else pa.int64(), nullable=False)]
    for factor in layout.manifest.factors:
        fields += [pa.field(factor.name, pa.string()), pa.field(f"{factor.name}_prob", pa.float32())]
        fields += [pa.field(f"{factor.name}_u{j}", pa.float32()) for j in range(factor.u_dim)]
        if layout.probs:
            fields += [pa.field(f"{factor.name}_p_{name}", pa.float32()) for name in factor.class_names]
    if layout.z:
        fields += [pa.field(f"z{j}", pa.float32()) for j in range(layout.manifest.z_dim)]
    return pa.schema([*fields, pa.field("error", pa.string())], metadata=dict(layout.metadata))


def _columns(rows: Rows, layout: Layout) -> dict[str, Any]:
    """Return one value an image for every Parquet column."""
    matrices = _matrices(rows, layout)
    columns: dict[str, Any] = {layout.key: rows.keys, "error": rows.errors}
    for factor in layout.manifest.factors:
        columns[factor.name] = matrices[factor.name]
        columns[f"{factor.name}_prob"] = matrices[f"{factor.name}_prob"]
        columns |= {f"{factor.name}_u{j}": matrices[f"{factor.name}_u"][:, j] for j in range(factor.u_dim)}
        if layout.probs:
            probs = matrices[f"{factor.name}_p"]
            columns |= {f"{factor.name}_p_{name}": probs[:, j] for j, name in enumerate(factor.class_names)}
    if layout.z:
        columns |= {f"z{j}": matrices["z"][:, j] for j in range(layout.manifest.z_dim)}
    return columns


def _matrices(rows: Rows, layout: Layout) -> dict[str, NDArray[Any]]:
    """Return the arrays of the .npz for some rows: the readable images' values, NaN and "" for the others."""
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
    arrays["error"] = np.array([error or "" for error in rows.errors])
    return arrays


def _spread(values: FloatArray | None, good: NDArray[np.bool_], width: int) -> FloatArray:
    """Put the rows of the readable images at their places among all, [images, width]."""
    spread = np.full((len(good), width), np.nan, dtype=np.float32)
    if values is not None:
        spread[good] = values
    return spread
