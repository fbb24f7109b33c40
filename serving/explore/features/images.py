"""The images of the points: read from where they were when their features were extracted, else drawn by the model.

Nothing but the rows of the feature file can be read. Where its footer, and not the command, says which images they are,
their list must have the hash of the footer: a file of somebody else cannot name other images of this machine.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from partedvae.errors import PartedVAEError
from partedvae.image_fit import BY_NAME
from partedvae.results import FloatArray, ImageArray
from partedvae.serving.errors import ServingError
from partedvae.serving.explore.features.table import FeatureTable
from partedvae.serving.extract.sources.listed import ListedSource, names_of
from partedvae.serving.extract.sources.open import open_source
from partedvae.serving.extract.sources.options import InputOptions, path_style_of
from partedvae.serving.extract.sources.source import Source
from partedvae.serving.images import encode_png
from partedvae.v1.manifest_pb2 import ImageSpec

Kind = Literal["image", "reconstruction", "missing"]
Decode = Callable[[FloatArray, FloatArray], Awaitable[ImageArray]]
"""Returns the images of u [images, u_dim] and z [images, z_dim]."""
WITHOUT_MODEL = ImageSpec(height=96, width=96, channels=3, fit=BY_NAME["pad"])
"""Size of images where no model says it."""
MOST_KEPT = 2_048
"""Images that are kept in memory, as PNG files."""
RETRY_SECONDS = 10.0
"""Time for which a drawn image stands for a missing one, and images that could not be opened are not opened again."""


@dataclass(frozen=True, kw_only=True)
class PointImage:
    """What is shown of a point."""

    point: int
    kind: Kind
    png: bytes = b""
    """The picture; empty if it is missing."""
    reason: str = ""
    """Why it is not the image itself; empty if it is."""


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """The images of the feature file."""

    source: Source | None = None
    rows_by_key: dict[str, int] | None = None
    """Row of every image by its path, where the list is not that of the footer; otherwise the rows are the same."""
    reason: str = ""
    """Why there are none."""
    failed: bool = False
    """Whether they could not be opened."""


class PointImages:
    """The images of the points of one file, for all visitors."""

    def __init__(self, table: FeatureTable, given: str = "", data_dir: Path = Path("data")) -> None:
        """Prepare reading; nothing is opened yet.

        Args:
            table: the features.
            given: INPUT of the extraction; by default that of the footer.
            data_dir: folder of the registered data sets.
        """
        self._table = table
        self._given = given
        self._data_dir = data_dir
        self._opened: _Opened | None = None
        self._retry = 0.0
        """When images that could not be opened are opened again, by `time.monotonic`."""
        self._opening = threading.Lock()
        self._kept: OrderedDict[int, tuple[PointImage, float]] = OrderedDict()
        """Images by point, and until when each is shown."""

    async def get(
        self, points: Sequence[int], spec: ImageSpec | None = None, decode: Decode | None = None
    ) -> list[PointImage]:
        """Return what to show of some points, in order.

        Args:
            points: the points.
            spec: size of the model's images; None without a model.
            decode: draws images from u and z; None without a model.
        """
        # Not looked up again at the end: other visitors' points may have taken their places by then.
        found = {point: image for point in points if (image := self._kept_image(point))}
        wanted = [point for point in dict.fromkeys(points) if point not in found]
        if wanted:
            read = await asyncio.to_thread(self._read, wanted, spec or WITHOUT_MODEL)
            found |= {image.point: image for image in read}
            found |= await self._drawn([image for image in read if image.kind == "missing"], decode)
        for image in found.values():
            self._keep(image)
        return [found[point] for point in points]

    def _kept_image(self, point: int) -> PointImage | None:
        if point not in self._kept:
            return None
        image, until = self._kept[point]
        if time.monotonic() < until:
            return image
        del self._kept[point]
        return None

    def _keep(self, image: PointImage) -> None:
        """Keep an image; a drawn one for a limited time, and not instead of the image itself."""
        if image.kind == "image":
            self._kept[image.point] = image, math.inf
        elif image.kind == "reconstruction" and self._kept_image(image.point) is None:
            self._kept[image.point] = image, time.monotonic() + RETRY_SECONDS
        if image.point in self._kept:
            self._kept.move_to_end(image.point)
        if len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)

    def _read(self, points: Sequence[int], spec: ImageSpec) -> list[PointImage]:
        """Read the images of points; runs in a thread."""
        with self._opening:
            opened = self._opened
            # What cannot be opened may be mounted, or answer, later.
            if opened is None or (opened.failed and time.monotonic() >= self._retry):
                self._opened = opened = self._open()
                self._retry = time.monotonic() + RETRY_SECONDS
        return [self._read_one(opened, point, spec) for point in points]

    def _read_one(self, opened: _Opened, point: int, spec: ImageSpec) -> PointImage:
        if opened.source is None:
            return PointImage(point=point, kind="missing", reason=opened.reason)
        key = self._table.key_of(point)
        row = int(self._table.rows[point]) if opened.rows_by_key is None else opened.rows_by_key.get(key, -1)
        if not 0 <= row < len(opened.source):
            return PointImage(point=point, kind="missing", reason=f"{key} is not among the images any more")
        try:
            (job,) = opened.source.part(row, row + 1).jobs(1)
            prepared = job(spec)
        except (ServingError, OSError) as error:
            return PointImage(point=point, kind="missing", reason=str(error))
        if not len(prepared.images):
            return PointImage(point=point, kind="missing", reason=str(prepared.errors[0]))
        if str(prepared.keys[0]) != key:
            return PointImage(point=point, kind="missing", reason=f"{key} is not among the images any more")
        return PointImage(point=point, kind="image", png=encode_png(prepared.images)[0])

    def _open(self) -> _Opened:
        recorded = self._table.footer("input")
        given = self._given or recorded
        if not given:
            return _Opened(reason="the file does not say which images it was made of; pass --images INPUT")
        try:
            return self._matched(open_source(given, self._options()), recorded_only=not self._given)
        except (ServingError, OSError) as error:
            return _Opened(reason=f"{error}; pass --images INPUT, the images of the features", failed=True)

    def _options(self) -> InputOptions:
        style = path_style_of(self._table.footer("path_style")) if self._table.key == "path" else "relative"
        return InputOptions(data_dir=self._data_dir, path_style=style)

    def _matched(self, source: Source, *, recorded_only: bool) -> _Opened:
        """Find out which row of the source is which point."""
        if source.key != self._table.key:
            return _Opened(reason=f"the features are of images with {self._table.key}, and these have {source.key}")
        expected = self._table.footer("input_sha256")
        if expected and source.manifest_hash == expected:
            return _Opened(source=source)
        if recorded_only:
            return _Opened(
                reason="the images have changed since their features were extracted; pass --images INPUT to show them "
                "all the same"
            )
        if isinstance(source, ListedSource):
            return _Opened(source=source, rows_by_key=_rows_by_key(source))
        rows = self._table.footer("rows")
        if rows and int(rows) != len(source):
            return _Opened(reason=f"there are {len(source):,} images, and the features are of {int(rows):,}")
        return _Opened(source=source)

    async def _drawn(self, lost: Sequence[PointImage], decode: Decode | None) -> dict[int, PointImage]:
        """Return missing images as the model draws them from their features, by point.

        None if the file does not have all of the features. Where the model fails, its error is a reason too.
        """
        table = self._table
        if not lost or decode is None or table.u is None or table.z is None:
            return {}
        at = np.array([image.point for image in lost])
        try:
            pngs = await asyncio.to_thread(encode_png, await decode(table.u[at], table.z[at]))
        except PartedVAEError as error:
            return {image.point: replace(image, reason=f"{image.reason}; {error}") for image in lost}
        return {
            image.point: replace(image, kind="reconstruction", png=png) for image, png in zip(lost, pngs, strict=True)
        }


def _rows_by_key(source: ListedSource) -> dict[str, int]:
    return {source.keys.of(name): row for row, name in enumerate(names_of(source.table))}
