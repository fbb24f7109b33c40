"""Batch extraction of a folder or an array of images into a feature file, in this process or through a server."""

from __future__ import annotations

import time
from pathlib import Path

from partedvae.common.progress import progress_bar
from partedvae.serving.errors import ServingError
from partedvae.serving.extract.extractors import Extractor
from partedvae.serving.extract.feature_files import create
from partedvae.serving.extract.layout import Layout, model_metadata
from partedvae.serving.extract.sources.source import Source
from partedvae.serving.extract.summary import Summary


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
        source: from `partedvae.serving.extract.sources.open.open_source`.
        extractor: computes the features.
        output: a .parquet or .npz file, written atomically; see `partedvae.serving.extract.layout` for its contents.
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
        key=source.key,
        columns=source.columns,
        manifest=extractor.manifest,
        probs=probs,
        z=z,
        unfamiliar=unfamiliar,
        metadata=metadata,
    )
    summary = Summary()
    started = time.monotonic()
    with create(output, layout) as file, progress_bar(len(source), unit="img", title="extract") as bar:
        size = extractor.batch_size(batch_size)
        for rows in extractor.rows(source.part(0, len(source)).jobs(size), layout.include, size):
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
