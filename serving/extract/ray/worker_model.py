"""The model of an extraction in another process: sent there as it is, or opened there on a server."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from partedvae.cli.connection import Connection
from partedvae.serving.bundle import read_bundle
from partedvae.serving.extract.extractors import Extractor, LocalExtractor, RemoteExtractor
from partedvae.serving.manifest import MANIFEST_FILE
from partedvae.serving.onnx.devices import Device
from partedvae.serving.onnx.model import OnnxModel
from partedvae.serving.onnx.precision import Precision
from partedvae.serving.repository.loading import load_model


class WorkerModel(Protocol):
    """A model that a process opens for itself. Can be pickled."""

    @property
    def needs_gpu(self) -> bool:
        """Whether each process needs a GPU."""

    def open(self) -> Extractor:
        """Return what computes with it, for the rest of the process.

        Raises:
            ServingError: the model cannot be loaded.
            PartedVAEError: the server is not available.
        """


@dataclass(frozen=True, kw_only=True)
class BundledModel:
    """The files of a version of a model, a few megabytes: other machines need not have its folder."""

    name: str
    version: int
    files: Mapping[str, bytes]
    device: Device
    precision: Precision

    @classmethod
    def read(cls, path: Path, model: OnnxModel, device: Device) -> BundledModel:
        """Read the files of a model that was loaded here.

        Args:
            path: its folder, or that of the version; see `load_model`.
            model: as it was loaded from there.
            device: where to run it in the other processes.

        Raises:
            BundleError: a file was changed since.
            OSError: a file cannot be read.
        """
        folder = Path(os.path.realpath(path))
        if not os.path.lexists(folder / MANIFEST_FILE):
            folder /= str(model.version)
        bundle = read_bundle(folder)
        files = {name: bundle.read_graph(folder / name) for name in bundle.graph_files}
        files[MANIFEST_FILE] = (folder / MANIFEST_FILE).read_bytes()
        return cls(name=model.name, version=model.version, files=files, device=device, precision=model.precision)

    @property
    def needs_gpu(self) -> bool:
        """Whether it was asked for a GPU."""
        return self.device not in ("auto", "cpu")

    def open(self) -> Extractor:
        """Write the files into a temporary folder and load the model; see `WorkerModel`."""
        with self._folder() as folder:
            # One thread per run: several batches are computed at a time.
            return LocalExtractor(load_model(folder, device=self.device, threads=1, precision=self.precision))

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="partedvae-") as root:
            folder = Path(root) / self.name / str(self.version)
            folder.mkdir(parents=True)
            for name, content in self.files.items():
                (folder / name).write_bytes(content)
            yield folder


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A version of a model on a server. The files of the connection, of certificates, are read in each process."""

    connection: Connection
    name: str
    version: int

    needs_gpu = False

    def open(self) -> Extractor:
        """Connect to the server; see `WorkerModel`."""
        return RemoteExtractor(self.connection, self.name, self.version)
