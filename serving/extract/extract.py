"""Batch extraction: a folder or an array of images becomes a feature file, in process or through a server."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from partedvae.cli.connection import Connection
from partedvae.common.cpus import available_cpus
from partedvae.common.progress import progress_bar
from partedvae.results import FeatureChunk, ImageArray, concatenate
from partedvae.serving.errors import ServingError
from partedvae.serving.extract.inputs import Job, Prepared, Source
from partedvae.serving.extract.outputs import Layout, Rows, create, model_metadata
from partedvae.serving.onnx.model import OnnxModel
from partedvae.serving.operations.features import Output, features
from partedvae.serving.operations.model import DirectModel, run_sync
from partedvae.v1.manifest_pb2 import Manifest

T = TypeVar("T")

REPORTED = 5
"""Unreadable images that the summary names."""


class Model(Protocol):
    """What extraction needs of a model, wherever it runs."""

    name: str
    version: int
    manifest: Manifest

    def rows(self, jobs: Iterator[Job], include: tuple[Output, ...]) -> Iterator[Rows]:
        """Prepare and compute batches, some ahead of the reader; yield them in order."""


class LocalModel:
    """A model in this process."""

    def __init__(self, runtime: OnnxModel) -> None:
        """Take a loaded model."""
        self._model = DirectModel(runtime)
        self.name, self.version, self.manifest = runtime.name, runtime.version, runtime.manifest

    def rows(self, jobs: Iterator[Job], include: tuple[Output, ...]) -> Iterator[Rows]:
        """Prepare and compute in a few threads."""

        def compute(job: Job) -> Rows:
            prepared = job(self.manifest.image)
            computed = run_sync(features(self._model, prepared.images, include)) if len(prepared.images) else None
            return Rows(keys=prepared.keys, errors=prepared.errors, features=computed)

        return in_order(jobs, compute)


class ServedModel:
    """A model behind a server. The version is found once and kept: a new one that arrives meanwhile does not mix in."""

    def __init__(self, connection: Connection, model: str = "") -> None:
        """Ask the server what it has.

        Raises:
            PartedVAEError: no server answers, or it has no such model.
        """
        with connection.client(model=model) as client:
            details = client.model_info()
        self.name, self.version, self.manifest = details.name, details.version, details.manifest
        self._client = connection.client(model=self.name, version=self.version)

    def rows(self, jobs: Iterator[Job], include: tuple[Output, ...]) -> Iterator[Rows]:
        """Prepare in a few threads here, so that images travel at the model's size; compute by one stream."""
        waiting: deque[Prepared] = deque()

        def batches() -> Iterator[ImageArray]:
            for prepared in in_order(jobs, lambda job: job(self.manifest.image)):
                waiting.append(prepared)
                if len(prepared.images):
                    yield prepared.images

        first, parts = 0, []
        for chunk in self._client.stream_features(batches(), include=include):
            # No chunk has images of two batches, and none comes for a batch without.
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
    """What an extraction did."""

    images: int = 0
    """Images seen."""
    unreadable: int = 0
    """Images without features."""
    examples: list[str] = field(default_factory=list)
    """The first few of them, each with its reason."""
    seconds: float = 0.0
    """How long it took."""

    def count(self, rows: Rows) -> None:
        """Add some rows."""
        self.images += len(rows.errors)
        for key, error in zip(rows.keys, rows.errors, strict=True):
            if error is not None:
                self.unreadable += 1
                if len(self.examples) < REPORTED:
                    self.examples.append(f"{key}: {error}")


def extract(
    source: Source, model: Model, output: Path, *, batch_size: int = 256, probs: bool = False, z: bool = False
) -> Summary:
    """Write the features of all images of a source.

    Args:
        source: from `partedvae.serving.extract.inputs.open_source`.
        model: where to compute.
        output: a .parquet or .npz file; `partedvae.serving.extract.outputs` tells what it holds. It appears at the end.
        batch_size: images of one run of the encoder, or of one request.
        probs: whether to hold the probabilities of all classes.
        z: whether to hold the class-independent z.

    Raises:
        ServingError: the source cannot be read on, or not one of its images can.
        PartedVAEError: the server failed.
    """
    metadata = model_metadata(model.name, model.version, model.manifest)
    layout = Layout(key=source.key, manifest=model.manifest, probs=probs, z=z, metadata=metadata)
    summary = Summary()
    started = time.monotonic()
    with create(output, layout) as file, progress_bar(len(source), unit="img", title="extract") as bar:
        for rows in model.rows(source.jobs(batch_size), layout.include):
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


def in_order(jobs: Iterator[Job], work: Callable[[Job], T]) -> Iterator[T]:
    """Do some work in a few threads, some of it ahead of the reader; yield the results in order."""
    # One batch decodes while another is in the encoder or on its way; both leave Python's lock free.
    threads = max(4, 2 * available_cpus())
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


def joined_rows(prepared: Prepared, parts: Sequence[FeatureChunk], first: int) -> Rows:
    """Join a batch with what a server said of its images.

    Args:
        prepared: the batch.
        parts: the server's chunks, of all readable images of the batch.
        first: position of the first of these among all that were sent.
    """
    errors = list(prepared.errors)
    sent = [i for i, error in enumerate(errors) if error is None]
    for part in parts:
        for problem in part.problems:
            errors[sent[problem.index - first]] = problem.reason
    computed = [part.features for part in parts if part.features is not None]
    return Rows(keys=prepared.keys, errors=errors, features=concatenate(computed) if computed else None)
