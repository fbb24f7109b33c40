"""Helpers of the tests of sources."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from partedvae.results import ImageArray
from partedvae.serving.extract.sources.open import open_source
from partedvae.serving.extract.sources.options import InputOptions
from partedvae.serving.extract.sources.source import Part, Source
from partedvae.v1.manifest_pb2 import ImageSpec
from tests.bundles import GREY

SPEC = ImageSpec(height=8, width=6, channels=1)
IMAGES = GREY.random_images(12)


@dataclass
class Read:
    """All rows of a source or part."""

    keys: list[Any]
    errors: list[str | None]
    images: ImageArray
    columns: dict[str, list[Any]]


def read_part(part: Part, batch_size: int = 5) -> Read:
    """Run the jobs of a part."""
    prepared = [job(SPEC) for job in part.jobs(batch_size)]
    tables = [each.columns for each in prepared if each.columns is not None]
    return Read(
        keys=[key for each in prepared for key in each.keys],
        errors=[error for each in prepared for error in each.errors],
        images=np.concatenate([each.images for each in prepared]),
        columns=pa.concat_tables(tables).to_pydict() if tables else {},
    )


def read_source(source: Source) -> Read:
    return read_part(source.part(0, len(source)))


def read(given: object, **options: Any) -> Read:
    return read_source(open_source(str(given), InputOptions(**options)))


def png(number: int) -> bytes:
    """Return one of `IMAGES` as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(IMAGES[number, ..., 0]).save(file, "PNG")
    return file.getvalue()


def write_images(folder: Path, names: Sequence[str]) -> None:
    """Write the first of `IMAGES` under these names."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(number))


def write_tar(path: Path, members: Mapping[str, bytes], mode: str = "w") -> None:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
