"""Computes the features of batches, in this process or through a server."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Protocol

from partedvae.cli.connection import Connection
from partedvae.requests import FeatureName
from partedvae.results import FeatureChunk, ImageArray, concatenate
from partedvae.serving.extract.layout import Rows
from partedvae.serving.extract.pipeline import in_order
from partedvae.serving.extract.sources.source import Job, Prepared
from partedvae.serving.onnx.model import MAX_ROWS, OnnxModel
from partedvae.serving.operations.features import features
from partedvae.serving.operations.model import DirectModel, run_sync
from partedvae.v1.manifest_pb2 import ImageSpec, Manifest

LAYERS = 32
"""Memory of a run of the encoder for one image, as a multiple of its pixels: 32-bit numbers, in the input and in the
layers that are in memory at a time."""


class Extractor(Protocol):
    """Computes the features of batches, in this process or on a server."""

    name: str
    version: int
    manifest: Manifest
    precision: str
    """Numbers that the encoder computes with, "fp32" or "int8"."""
    has_familiarity: bool
    """Whether the model knows the range of its scores."""

    def rows(self, jobs: Iterator[Job], include: tuple[FeatureName, ...], batch_size: int) -> Iterator[Rows]:
        """Yield the results of batches in order; some are computed ahead.

        Args:
            jobs: prepare a batch each.
            include: the outputs to compute.
            batch_size: images of a batch.
        """


class LocalExtractor:
    """Runs a model in this process."""

    def __init__(self, onnx_model: OnnxModel) -> None:
        """Wrap a loaded model."""
        self._model = DirectModel(onnx_model)
        self.name, self.version, self.manifest = onnx_model.name, onnx_model.version, onnx_model.manifest
        self.precision: str = onnx_model.precision
        self.has_familiarity = onnx_model.has_familiarity

    def rows(self, jobs: Iterator[Job], include: tuple[FeatureName, ...], batch_size: int) -> Iterator[Rows]:
        """Read, decode and compute in several threads."""

        def compute(job: Job) -> Rows:
            prepared = job(self.manifest.image)
            computed = run_sync(features(self._model, prepared.images, include)) if len(prepared.images) else None
            return Rows(keys=prepared.keys, errors=prepared.errors, features=computed, columns=prepared.columns)

        # A batch as it is read and as it is converted, and the layers of a run, which have at most MAX_ROWS images.
        image = _bytes_of(self.manifest.image)
        return in_order(jobs, compute, 2 * batch_size * image + min(batch_size, MAX_ROWS) * image * LAYERS)


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

    def rows(self, jobs: Iterator[Job], include: tuple[FeatureName, ...], batch_size: int) -> Iterator[Rows]:
        """Read and decode in several threads, so that images are sent at the model's size; compute by one stream."""
        waiting: deque[Prepared] = deque()
        size = 2 * batch_size * _bytes_of(self.manifest.image)

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


def _bytes_of(image: ImageSpec) -> int:
    return image.height * image.width * image.channels


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
