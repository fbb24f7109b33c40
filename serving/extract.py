"""Batch extraction: a folder or an array of images becomes a feature file, in process or through a server."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from partedvae.client import Client
from partedvae.results import Features, ImageArray
from partedvae.v1.manifest_pb2 import Manifest
from serving import inference
from serving.cpus import available_cpus
from serving.errors import ServingError
from serving.feature_files import Layout, Rows, create, model_metadata
from serving.inference import Output
from serving.inputs import Job, Source
from serving.progress import Progress
from serving.runtime import Runtime

REPORTED = 5
"""Unreadable images that the summary names."""


class Model(Protocol):
    """What extraction needs of a model, wherever it runs. Used from many threads at once."""

    name: str
    version: int
    manifest: Manifest

    def features(self, images: ImageArray, include: tuple[Output, ...]) -> Features:
        """Return the features of uint8 [images, height, width, channels] at the model's size."""


class LocalModel:
    """A model in this process."""

    def __init__(self, runtime: Runtime) -> None:
        """Take a loaded model."""
        self._runtime = runtime
        self.name, self.version, self.manifest = runtime.name, runtime.version, runtime.manifest

    def features(self, images: ImageArray, include: tuple[Output, ...]) -> Features:
        """Run the encoder."""
        return inference.extract_features(self._runtime, images, include)


class ServedModel:
    """A model behind a server. The version is found once and kept: a new one that arrives meanwhile does not mix in."""

    def __init__(self, server: str, model: str = "") -> None:
        """Ask the server what it has.

        Raises:
            PartedVAEError: no server answers, or it has no such model.
        """
        with Client(server, model=model) as client:
            details = client.model_info()
        self.name, self.version, self.manifest = details.name, details.version, details.manifest
        self._client = Client(server, model=self.name, version=self.version)

    def features(self, images: ImageArray, include: tuple[Output, ...]) -> Features:
        """Ask the server."""
        return self._client.features(images, include=include)

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
        source: from `serving.inputs.open_source`.
        model: where to compute.
        output: a .parquet or .npz file; see `serving.feature_files` for what it holds. It appears when all is done.
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
    with create(output, layout) as file, Progress(len(source), "extract") as progress:
        for rows in _in_order(source.jobs(batch_size), model, layout.include):
            file.write(rows)
            summary.count(rows)
            progress.update(len(rows.errors))
        summary.seconds = progress.seconds
        if summary.unreadable == summary.images:
            raise ServingError(
                f"none of the {summary.images:,} images could be read, {output} was not written; "
                f"the first: {summary.examples[0]}"
            )
    return summary


def _in_order(jobs: Iterator[Job], model: Model, include: tuple[Output, ...]) -> Iterator[Rows]:
    """Prepare and compute batches in a few threads, some ahead of the reader; yield them in order."""
    # One batch decodes while another is in the encoder or on its way; both leave Python's lock free.
    threads = max(4, 2 * available_cpus())
    ahead: deque[Future[Rows]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="partedvae-extract")
    try:
        for job in jobs:
            ahead.append(pool.submit(_rows, job, model, include))
            if len(ahead) > threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _rows(job: Job, model: Model, include: tuple[Output, ...]) -> Rows:
    prepared = job(model.manifest.image)
    features = model.features(prepared.images, include) if len(prepared.images) else None
    return Rows(keys=prepared.keys, errors=prepared.errors, features=features)
