"""Batch extraction of a folder or an array of images into a feature file, in this process or through a server."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from partedvae.cli.connection import Connection
from partedvae.common.cpus import available_cpus
from partedvae.common.file_names import in_one_line
from partedvae.common.progress import progress_bar
from partedvae.familiarity import FAMILIAR, INVERTED
from partedvae.requests import FeatureName
from partedvae.results import FeatureChunk, ImageArray, concatenate
from partedvae.serving.errors import ServingError
from partedvae.serving.extract.inputs import Job, Prepared, Source
from partedvae.serving.extract.outputs import Layout, Rows, create, model_metadata
from partedvae.serving.onnx.model import MAX_ROWS, OnnxModel
from partedvae.serving.operations.features import features
from partedvae.serving.operations.model import DirectModel, run_sync
from partedvae.v1.manifest_pb2 import ImageSpec, Manifest

T = TypeVar("T")

MEMORY = 1 << 30
"""Bytes that the batches of an extraction occupy together, unless two of them are larger."""
LAYERS = 32
"""Memory of a run of the encoder for one image, as a multiple of its pixels: 32-bit numbers, in the input and in the
layers that are in memory at a time."""
REPORTED = 5
"""Number of unreadable images that the summary lists."""


class Extractor(Protocol):
    """Computes the features of batches, in this process or on a server."""

    name: str
    version: int
    manifest: Manifest
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
        self.has_familiarity = onnx_model.has_familiarity

    def rows(self, jobs: Iterator[Job], include: tuple[FeatureName, ...], batch_size: int) -> Iterator[Rows]:
        """Read, decode and compute in several threads."""

        def compute(job: Job) -> Rows:
            prepared = job(self.manifest.image)
            computed = run_sync(features(self._model, prepared.images, include)) if len(prepared.images) else None
            return Rows(keys=prepared.keys, errors=prepared.errors, features=computed)

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


@dataclass(kw_only=True)
class Summary:
    """Counts of an extraction."""

    images: int = 0
    """Images in the source."""
    unreadable: int = 0
    """Images without features."""
    examples: list[str] = field(default_factory=list)
    """The first `REPORTED` of them, each with its reason."""
    unfamiliar: int = 0
    """Images that are unlike the training images."""
    inverted: int = 0
    """Those of them that would be like the training images when inverted."""
    seconds: float = 0.0
    """Duration."""

    def count(self, rows: Rows) -> None:
        """Add rows to the counts."""
        self.images += len(rows.errors)
        for key, error in zip(rows.keys, rows.errors, strict=True):
            if error is not None:
                self.unreadable += 1
                if len(self.examples) < REPORTED:
                    self.examples.append(f"{in_one_line(str(key))}: {error}")
        if rows.features is not None and rows.features.unfamiliar is not None:
            self.unfamiliar += int(np.count_nonzero(rows.features.unfamiliar != FAMILIAR))
            self.inverted += int(np.count_nonzero(rows.features.unfamiliar == INVERTED))


def extract(
    source: Source,
    extractor: Extractor,
    output: Path,
    *,
    batch_size: int = 256,
    probs: bool = False,
    z: bool = False,
    familiarity: bool = True,
) -> Summary:
    """Write the features of all images of a source.

    Args:
        source: from `partedvae.serving.extract.inputs.open_source`.
        extractor: computes the features.
        output: a .parquet or .npz file, written atomically; see `partedvae.serving.extract.outputs` for its contents.
        batch_size: images per run of the encoder, or per request.
        probs: whether to include the probabilities of all classes.
        z: whether to include the class-independent z.
        familiarity: whether to include how images differ from the training images, if the model knows it.

    Raises:
        ServingError: the source cannot be read to its end, or none of its images can be read.
        PartedVAEError: the server failed.
    """
    metadata = model_metadata(extractor.name, extractor.version, extractor.manifest)
    unfamiliar = familiarity and extractor.has_familiarity
    layout = Layout(
        key=source.key, manifest=extractor.manifest, probs=probs, z=z, unfamiliar=unfamiliar, metadata=metadata
    )
    summary = Summary()
    started = time.monotonic()
    with create(output, layout) as file, progress_bar(len(source), unit="img", title="extract") as bar:
        for rows in extractor.rows(source.jobs(batch_size), layout.include, batch_size):
            file.write(rows)
            summary.count(rows)
            bar.update(len(rows.errors))
        summary.seconds = time.monotonic() - started
        if summary.unreadable == summary.images:
            raise ServingError(
                f"none of the {summary.images:,} images could be read, {output} was not written; "
                f"the first: {summary.examples[0]}"
            )
    return summary


def in_order(jobs: Iterator[Job], work: Callable[[Job], T], size: int) -> Iterator[T]:
    """Run jobs in several threads, some of them ahead; yield the results in order.

    Args:
        jobs: the jobs.
        work: what to do with each.
        size: memory in bytes that a job occupies; with many processors or large images it limits their number.
    """
    threads = thread_count(size)
    ahead: deque[Future[T]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="partedvae-extract")
    try:
        for job in jobs:
            ahead.append(pool.submit(work, job))
            if len(ahead) > threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _bytes_of(image: ImageSpec) -> int:
    return image.height * image.width * image.channels


def thread_count(size: int) -> int:
    """Return the number of threads for jobs of a size in bytes: two per processor, and at most `MEMORY` in all.

    One batch is decoded while another is in the encoder or sent to the server, and both release the GIL.
    """
    return max(2, min(max(4, 2 * available_cpus()), MEMORY // size))


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
    return Rows(keys=prepared.keys, errors=errors, features=concatenate(computed) if computed else None)
