"""The bundle format: a version folder `<models>/<name>/<version>/` with ONNX graphs and a manifest.

Export writes bundles with `write_bundle`; the server reads them with `load_bundle`. The manifest is the message
`partedvae.v1.Manifest` as JSON, so that GetModel returns what export wrote.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath

from google.protobuf import json_format

from partedvae.common.atomic_write import fsync, write_error
from partedvae.common.fit import DEFAULT_FIT, FITS
from partedvae.image_fit import fit_of
from partedvae.serving.errors import BundleError
from partedvae.v1.manifest_pb2 import GraphFile, Manifest

FORMAT_VERSION = 2
"""Newest version of the format. Bundles whose images are stretched have version 1, which servers before 0.3.0 load."""
ENCODER_FILE = "encoder.onnx"
DECODER_FILE = "decoder.onnx"
SCORER_FILE = "scorer.onnx"
MANIFEST_FILE = "manifest.json"
GRAPH_FILES = (ENCODER_FILE, DECODER_FILE)
"""Required in every bundle. The scorer is optional: bundles of early exports do not have one, and return no scores."""

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
    """A verified bundle: its files exist and match the manifest's checksums, and its format version is supported."""

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
        recorded = any(file.name == SCORER_FILE for file in self.manifest.files)
        return self.folder / SCORER_FILE if recorded else None

    @property
    def version(self) -> int:
        """The version: the name of the folder."""
        return int(self.folder.name)

    @property
    def name(self) -> str:
        """The model's name: the name of the parent folder."""
        return self.folder.parent.name


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shared_name(dataset: str) -> str:
    """Return the name of a data set for others: that of a folder of images without the path to it."""
    kind, colon, path = dataset.partition(":")
    return f"{kind}:{PurePath(path).name}" if kind == "folder" and colon else dataset


def read_manifest(folder: Path) -> Manifest:
    """Read a version folder's manifest.

    Raises:
        BundleError: it is missing, not valid JSON, of a newer format version, or fits images in an unknown way.
    """
    path = folder / MANIFEST_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BundleError(
            f"{folder} is not a bundle: {MANIFEST_FILE} is missing; export a run with 'partedvae export'"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    try:
        manifest = json_format.Parse(text, Manifest(), ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise BundleError(f"{path} is not a valid manifest: {error}") from error
    # Bundles of earlier versions have the path of the machine that trained them.
    if manifest.HasField("training"):
        manifest.training.dataset = shared_name(manifest.training.dataset)
    if not 1 <= manifest.format_version <= FORMAT_VERSION:
        raise BundleError(
            f"{path} has format version {manifest.format_version}, this version of partedvae supports 1 to "
            f"{FORMAT_VERSION}; export the run again, or install the version of partedvae that wrote it"
        )
    fit = fit_of(manifest.image)
    # A name that is unknown is read as if it were absent, which in version 2 it is not.
    if fit is None or (fit == DEFAULT_FIT and manifest.format_version > 1):
        raise BundleError(
            f"{path}: image.fit is none of {', '.join(FITS)}; install the version of partedvae that wrote it, or "
            "export the run again"
        )
    return manifest


def load_bundle(folder: Path) -> Bundle:
    """Read and verify one version folder.

    Raises:
        BundleError: a file is missing, a checksum differs, or the format version is unsupported.
    """
    if not folder.name.isdecimal():
        raise BundleError(f"{folder} is not a version folder: its name must be an integer")
    manifest = read_manifest(folder)
    if not manifest.factors or not manifest.HasField("image"):
        raise BundleError(f"{folder / MANIFEST_FILE} has no factors or no image size; export the run again")
    recorded = {file.name: file for file in manifest.files}
    for name in GRAPH_FILES:
        if name not in recorded:
            raise BundleError(f"{folder / MANIFEST_FILE} does not list {name}; export the run again")
    for name in (*GRAPH_FILES, SCORER_FILE):
        if name not in recorded:
            continue
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{path} is missing; export the run again")
        actual = sha256_of(path)
        if actual != recorded[name].sha256:
            raise BundleError(
                f"{path} is damaged: its SHA-256 is {actual[:12]}…, the manifest says {recorded[name].sha256[:12]}…; "
                "export the run again, or copy the bundle again"
            )
    return Bundle(folder=folder, manifest=manifest)


def versions_of(model_folder: Path) -> list[int]:
    """Return the version numbers in a model's folder, oldest first."""
    if not model_folder.is_dir():
        return []
    return sorted(int(entry.name) for entry in model_folder.iterdir() if entry.is_dir() and entry.name.isdecimal())


def write_bundle(model_folder: Path, manifest: Manifest, write_graphs: Callable[[Path], None]) -> Bundle:
    """Write the next version of a model atomically.

    Args:
        model_folder: `<models>/<name>`; created if necessary.
        manifest: complete except for format version and files, which are filled in.
        write_graphs: writes encoder, decoder and optionally the scorer into the folder that it is called with. If it
            raises, no version is created.

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
        for name in (*GRAPH_FILES, SCORER_FILE):
            path = staging / name
            if name == SCORER_FILE and not path.exists():
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
        folder = model_folder / str(max(versions_of(model_folder), default=0) + 1)
        try:
            staging.rename(folder)
        except OSError:
            if not folder.exists():
                raise
            continue
        return folder
