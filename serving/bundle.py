"""The bundle format: a version folder `<models>/<name>/<version>/` with ONNX graphs and a manifest.

Export writes bundles with `write_bundle`; the server reads them with `load_bundle`. The manifest is the message
`partedvae.v1.Manifest` as JSON, so that GetModel returns what export wrote.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from google.protobuf import json_format

from partedvae.common.atomic_write import fsync, write_error
from partedvae.common.fit import DEFAULT_FIT
from partedvae.image_fit import fit_of
from partedvae.serving.bundle_files import MAX_VERSION, read_file, sha256_of, version_number, versions_of
from partedvae.serving.errors import BundleError
from partedvae.serving.manifest import FORMAT_VERSION, MANIFEST_FILE, read_manifest
from partedvae.v1.manifest_pb2 import GraphFile, Manifest

ENCODER_FILE = "encoder.onnx"
DECODER_FILE = "decoder.onnx"
SCORER_FILE = "scorer.onnx"
INT8_ENCODER_FILE = "encoder.int8.onnx"
"""The encoder of 8-bit integers, with the inputs and outputs of the other encoder."""
GRAPH_FILES = (ENCODER_FILE, DECODER_FILE)
"""Required in every bundle."""
OPTIONAL_GRAPH_FILES = (SCORER_FILE, INT8_ENCODER_FILE)
"""Early exports have no scorer, and return no scores. The encoder of 8-bit integers is an option of export."""
MAX_GRAPH_BYTES = 2**31 - 1
"""Largest message of protobuf, and so the largest graph without external data."""

ENCODER_INPUT = "images"
"""uint8 [batch, height, width, channels]."""
Z_MEAN, Z_LOGVAR = "z_mean", "z_logvar"
"""Encoder outputs, float32 [batch, z_dim]."""
DECODER_INPUTS = ("u", "z")
"""float32 [batch, sum of u_dim] (the factors' u in the manifest's order) and float32 [batch, z_dim]."""
DECODER_OUTPUT = "images"
"""uint8 [batch, height, width, channels]."""
SCORER_INPUT = "images"
"""uint8 [batch, height, width, channels]."""
RECONSTRUCTION_ERROR, NEGATIVE_ELBO = "reconstruction_error", "negative_elbo"
SCORER_OUTPUTS = (RECONSTRUCTION_ERROR, "kl_z", "kl_u", "kl_c", NEGATIVE_ELBO)
"""float32 [batch]; the last is the sum of the others (Equation 2 of the paper)."""


@cache
def factor_output(factor: str, kind: str) -> str:
    """Return the name of a factor's encoder output; `kind` is "probs", "u_mean" or "u_logvar" (float32 [batch, …])."""
    return f"{factor}.{kind}"


def encoder_outputs(factors: Iterable[str]) -> list[str]:
    """Return the names of all encoder outputs in the graph's order, for factors in the manifest's order."""
    kinds = ("probs", "u_mean", "u_logvar")
    return [factor_output(factor, kind) for factor in factors for kind in kinds] + [Z_MEAN, Z_LOGVAR]


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A version folder whose manifest was checked; `read_graph` verifies each graph that is loaded."""

    folder: Path
    manifest: Manifest

    @property
    def encoder_path(self) -> Path:
        """Path of the encoder graph."""
        return self.folder / ENCODER_FILE

    @property
    def decoder_path(self) -> Path:
        """Path of the decoder graph."""
        return self.folder / DECODER_FILE

    @property
    def scorer_path(self) -> Path | None:
        """Path of the scorer graph; None if the bundle has none."""
        return self.folder / SCORER_FILE if SCORER_FILE in self._checksums else None

    @property
    def int8_encoder_path(self) -> Path | None:
        """Path of the encoder of 8-bit integers; None if the bundle has none."""
        return self.folder / INT8_ENCODER_FILE if INT8_ENCODER_FILE in self._checksums else None

    @property
    def graph_files(self) -> list[str]:
        """Names of the files of its graphs."""
        return [name for name in (*GRAPH_FILES, *OPTIONAL_GRAPH_FILES) if name in self._checksums]

    @property
    def version(self) -> int:
        """The version: the name of the folder."""
        return int(self.folder.name)

    @property
    def name(self) -> str:
        """The model's name: the name of the parent folder."""
        return self.folder.parent.name

    def read_graph(self, path: Path) -> bytes:
        """Read a graph and verify what was read: the file may change at any time, what is returned does not.

        Args:
            path: `encoder_path`, `int8_encoder_path`, `decoder_path` or `scorer_path`.

        Raises:
            BundleError: it is missing, no regular file or too large, or its checksum differs.
            OSError: it cannot be read.
        """
        try:
            content = read_file(path, MAX_GRAPH_BYTES)
        except FileNotFoundError:
            raise _missing(path) from None
        self._compare(path, hashlib.sha256(content).hexdigest())
        return content

    def verify(self) -> None:
        """Compare all graphs with their checksums, without keeping them in memory; errors are those of `read_graph`."""
        for name in self.graph_files:
            path = self.folder / name
            try:
                actual = sha256_of(path, MAX_GRAPH_BYTES)
            except FileNotFoundError:
                raise _missing(path) from None
            self._compare(path, actual)

    @property
    def _checksums(self) -> dict[str, str]:
        return {file.name: file.sha256 for file in self.manifest.files}

    def _compare(self, path: Path, actual: str) -> None:
        recorded = self._checksums[path.name]
        if actual != recorded:
            raise BundleError(
                f"{path} is damaged: its SHA-256 is {actual[:12]}…, the manifest says {recorded[:12]}…; "
                "export the run again, or copy the bundle again"
            )


def _missing(path: Path) -> BundleError:
    return BundleError(f"{path} is missing; export the run again")


def read_bundle(folder: Path) -> Bundle:
    """Read the manifest of a version folder; the graphs are verified when they are read.

    Raises:
        BundleError: the folder is no version, or its manifest is missing, invalid or of an unsupported format version.
        OSError: the manifest cannot be read.
    """
    if version_number(folder.name) is None:
        raise BundleError(
            f"{folder} is not a version folder: its name must be an integer from 1 to {MAX_VERSION} without leading "
            "zeros"
        )
    bundle = Bundle(folder=folder, manifest=read_manifest(folder))
    for name in GRAPH_FILES:
        if name not in bundle.graph_files:
            raise BundleError(f"{folder / MANIFEST_FILE} does not list {name}; export the run again")
    return bundle


def load_bundle(folder: Path) -> Bundle:
    """Read and verify one version folder.

    Raises:
        BundleError: a file is missing, a checksum differs, or the format version is unsupported.
        OSError: a file cannot be read.
    """
    bundle = read_bundle(folder)
    bundle.verify()
    return bundle


def write_bundle(model_folder: Path, manifest: Manifest, write_graphs: Callable[[Path], None]) -> Bundle:
    """Write the next version of a model atomically.

    Args:
        model_folder: `<models>/<name>`; created if necessary.
        manifest: complete except for format version and files, which are filled in.
        write_graphs: writes `GRAPH_FILES`, and any of `OPTIONAL_GRAPH_FILES`, into the folder that it is called with.
            If it raises, no version is created.

    Returns:
        The new version, read back and verified.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    model_folder.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".staging-", dir=model_folder))
    try:
        write_graphs(staging)
        manifest.format_version = 1 if fit_of(manifest.image) == DEFAULT_FIT else FORMAT_VERSION
        del manifest.files[:]
        for name in (*GRAPH_FILES, *OPTIONAL_GRAPH_FILES):
            path = staging / name
            if name in OPTIONAL_GRAPH_FILES and not path.exists():
                continue
            manifest.files.append(GraphFile(name=name, sha256=sha256_of(path), size_bytes=path.stat().st_size))
        # Sorted, since the order of a protobuf map differs from process to process.
        text = json_format.MessageToJson(manifest, preserving_proto_field_name=True, sort_keys=True)
        (staging / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")
        for path in [*staging.iterdir(), staging]:
            fsync(path)
        staging.chmod(0o755)
        folder = _publish(staging, model_folder)
    except OSError as error:
        raise write_error(error, model_folder) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)  # After it has been renamed, there is nothing to delete.
    fsync(model_folder)
    return load_bundle(folder)


def _publish(staging: Path, model_folder: Path) -> Path:
    """Rename the staging folder to the next free version; retry if another export used that number first."""
    while True:
        newest = max(versions_of(model_folder), default=0)
        if newest == MAX_VERSION:
            raise OSError(errno.EOVERFLOW, f"version {newest} is the largest that is possible; rename its folder")
        folder = model_folder / str(newest + 1)
        try:
            staging.rename(folder)
        except OSError:
            if not folder.exists():
                raise
            continue
        return folder
