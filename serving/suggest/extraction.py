"""Features of a source, written by batch extraction into a file that is read again the next time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from partedvae.serving.extract.engine import LocalEngine
from partedvae.serving.extract.extraction import Options, extract
from partedvae.serving.extract.extractors import Extractor, LocalExtractor
from partedvae.serving.extract.output.output import parse_output
from partedvae.serving.extract.sources.source import Source
from partedvae.serving.repository.loading import load_model
from partedvae.serving.suggest.features import INCLUDE

BATCH = 256
"""Images per batch."""


def local_extractor(model: Path, version: int = 0) -> LocalExtractor:
    """Load the model of a folder; errors are those of `load_model`."""
    return LocalExtractor(load_model(model, version, device="auto", threads=1))


def extract_features(source: Source, extractor: Extractor, folder: Path, say: Callable[[str], None]) -> Path:
    """Write the features of all images, or find them complete in a file of an earlier call; return the file.

    Features of other images, or of another version of the model, are replaced.

    Args:
        source: the images.
        extractor: the model.
        folder: where the file is.
        say: receives a line on what is done.

    Raises:
        ServingError: the images cannot be read, or another process writes the file.
        PartedVAEError: the server failed.
        OSError: the file cannot be written.
    """
    path = folder / f"features-{extractor.name or 'model'}.parquet"
    summary = extract(
        source,
        extractor,
        parse_output(str(path)),
        Options(include=INCLUDE, overwrite=True),
        LocalEngine(extractor, BATCH),
        say=say,
    )
    if summary.computed:
        say(f"features of {summary.counts.images:,} images -> {path}; the next time they are read from there")
    if summary.counts.unreadable:
        say(f"{summary.counts.unreadable:,} images could not be read; the first: {summary.counts.examples[0]}")
    return path
