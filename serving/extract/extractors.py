"""Computes the features of batches, in this process or through a server."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Protocol

from partedvae.cli.connection import Connection
from partedvae.common.cpus import available_cpus
from partedvae.requests import FeatureName
from partedvae.results import FeatureChunk, Features, ImageArray, concatenate
from partedvae.serving.extract.layout import Rows
from partedvae.serving.extract.memory import RUNS
from partedvae.serving.extract.pipeline import in_order, rows_per_job
from partedvae.serving.extract.sources.source import Job, Prepared
from partedvae.serving.onnx.devices import CPU
from partedvae.serving.onnx.model import MAX_ROWS, OnnxModel
from partedvae.serving.operations.features import features
from partedvae.serving.operations.model import DirectModel, run_sync
from partedvae.v1.manifest_pb2 import Manifest

LAYERS = 160
"""Bytes per pixel of an image that a run of a graph allocates for its layers, measured with the networks of MNIST."""
MAX_RUN = 64
"""Most images of a run on the CPU. Larger runs are slower, because their layers do not fit into the caches."""


class Extractor(Protocol):
    """Computes the features of batches, in this process or on a server."""

    name: str
    version: int
    manifest: Manifest
    precision: str
    """Numbers that the encoder computes with, "fp32" or "int8"."""
    has_familiarity: bool
    """Whether the model knows the range of its scores."""

    def batch_size(self, at_most: int) -> int:
        """Return the images of a batch: fewer than `at_most` if their memory would be too large."""

    def rows(self, jobs: Iterator[Job], include: tuple[FeatureName, ...], batch_size: int) -> Iterator[Rows]:
        """Yield the results of batches in order; some are computed ahead.

        Args:
            jobs: prepare a batch each.
            include: the outputs to compute.
            batch_size: images of a batch, at most what `batch_size` returns.
        """


class LocalExtractor:
    """Runs a model in this process."""

    def __init__(self, onnx_model: OnnxModel) -> None:
        """Wrap a loaded model. On the CPU it should run one thread per run: several runs take place at once."""
        self._model = DirectModel(onnx_model)
        self.name, self.version, self.manifest = onnx_model.name, onnx_model.version, onnx_model.manifest
        self.precision: str = onnx_model.precision
        self.has_familiarity = onnx_model.has_familiarity
        self._layers = LAYERS * self.manifest.image.height * self.manifest.image.width
        self._run = MAX_ROWS
        if onnx_model.provider == CPU:
            self._run = max(1, min(MAX_RUN, RUNS.limit // available_cpus() // self._layers))

    def batch_size(self, at_most: int) -> int:
        """Return the images of a batch; see `Extractor`."""
        return rows_per_job(at_most, _bytes_per_row(self.manifest))

    def rows(self, jobs: Iterator[Job], include: tuple[FeatureName, ...], batch_size: int) -> Iterator[Rows]:
        """Read, decode and compute in several threads."""

        def compute(job: Job) -> Rows:
            prepared = job(self.manifest.image)
            computed = self._features(prepared.images, include) if len(prepared.images) else None
            return Rows(keys=prepared.keys, errors=prepared.errors, features=computed, columns=prepared.columns)

        return in_order(jobs, compute, batch_size * _bytes_per_row(self.manifest))

    def _features(self, images: ImageArray, include: tuple[FeatureName, ...]) -> Features:
        parts = []
        for start in range(0, len(images), self._run):
            part = images[start : start + self._run]
            with RUNS.reserve(len(part) * self._layers):
                parts.append(run_sync(features(self._model, part, include)))
        return concatenate(parts)


class RemoteExtractor:
    """Streams images to a server. The version is fixed at the start, so that one file has features of one version."""

    def __init__(self, connection: Connection, model: str = "", version: int = 0) -> None:
        """Query the server for the model's version and manifest.

        Args:
            connection: how to reach the server.
            model: name of the model; may be empty if the server has only one.
            version: version of the model; 0 is the newest that works.

        Raises:
            PartedVAEError: the server is not available, or does not have the model.
        """
        with connection.client(model=model, version=version) as client:
            details = client.model_info()
        self.name, self.version, self.manifest = details.name, details.version, details.manifest
        self.precision = details.precision
        self.has_familiarity = details.has_familiarity
        self._client = connection.client(model=self.name, version=self.version)

    def batch_size(self, at_most: int) -> int:
        """Return the images of a batch; see `Extractor`."""
        return rows_per_job(at_most, _bytes_per_row(self.manifest))

    def rows(self, jobs: Iterator[Job], include: tuple[FeatureName, ...], batch_size: int) -> Iterator[Rows]:
        """Read and decode in several threads, so that images are sent at the model's size; compute by one stream."""
        waiting: deque[Prepared] = deque()
        size = batch_size * _bytes_per_row(self.manifest)

        def batches() -> Iterator[ImageArray]:
            for prepared in in_order(jobs, lambda job: job(self.manifest.image), size):
                waiting.append(prepared)
                if len(prepared.images):
                    yield prepared.images

        first, parts = 0, []
        for chunk in self._client.stream_features(batches(), include=include):
            # A chunk has images of one batch, and there is none for a batch without images.
            while not len(waiting[0].images):
                yield joined_rows(waiting.popleft(), [], first)
            parts.append(chunk)
            count = len(waiting[0].images)
            if sum(len(part.positions) + len(part.problems) for part in parts) == count:
                yield joined_rows(waiting.popleft(), parts, first)
                first, parts = first + count, []
        while waiting:
            yield joined_rows(waiting.popleft(), [], first)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def _bytes_per_row(manifest: Manifest) -> int:
    """Return the memory of an image of a batch: its pixels as they are read and as they are converted, and its results.

    The results are 32-bit numbers, and a name and references that do not depend on the model.
    """
    image = manifest.image
    factors = sum(len(factor.class_names) + factor.u_dim for factor in manifest.factors)
    return 2 * image.height * image.width * image.channels + 4 * (factors + manifest.z_dim) + 512


def joined_rows(prepared: Prepared, parts: Sequence[FeatureChunk], first: int) -> Rows:
    """Combine a batch with the server's results for its images.

    Args:
        prepared: the batch.
        parts: the server's chunks for all readable images of the batch.
        first: position of the first of these images among all that were sent.
    """
    errors = list(prepared.errors)
    sent = [i for i, error in enumerate(errors) if error is None]
    for part in parts:
        for problem in part.problems:
            errors[sent[problem.index - first]] = problem.reason
    computed = [part.features for part in parts if part.features is not None]
    return Rows(
        keys=prepared.keys,
        errors=errors,
        features=concatenate(computed) if computed else None,
        columns=prepared.columns,
    )
