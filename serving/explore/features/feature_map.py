"""All that the map shares among visitors: the features, their projections, colours and images."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from partedvae.serving.explore.features.colours import colourings_of
from partedvae.serving.explore.features.file import read_features
from partedvae.serving.explore.features.images import PointImage, PointImages
from partedvae.serving.explore.features.jobs import Projections
from partedvae.serving.explore.features.known_labels import with_known_labels
from partedvae.serving.explore.features.spaces import spaces_of
from partedvae.serving.explore.model import ModelAccess
from partedvae.serving.extract.output.identity import manifest_hash

OTHER_MODEL = "the model of these pages is not the one of the features, and cannot draw it"
AGAIN = "run 'partedvae extract' again with --include class,u,z,negative_elbo"


class FeatureMap:
    """The features of one file.

    Attributes:
        table: the features.
        spaces: what can be projected, by name.
        colourings: what the points can be coloured by, by name.
        projections: positions of the points.
        version: differs between processes, for the URLs of data that browsers keep.
    """

    def __init__(self, given: str, images: str = "", data_dir: Path = Path("data")) -> None:
        """Read the features.

        Args:
            given: path or URL of the file, or of the folder of parts.
            images: INPUT of the extraction; by default that of the file's footer.
            data_dir: folder of the registered data sets.

        Raises:
            InvalidInputError: the file cannot be used; see `read_features`.
            OSError: it cannot be read.
        """
        table = read_features(given)
        self.table = with_known_labels(table, images or table.footer("input"), data_dir)
        self.spaces = spaces_of(self.table)
        self.colourings = colourings_of(self.table)
        self.projections = Projections(self.spaces)
        self.version = secrets.token_hex(4)
        self._images = PointImages(self.table, images, data_dir)

    def missing(self, side: str) -> str:
        """Return why there is no map of u or z, with the remedy; empty if there is one."""
        if any(space.side == side for space in self.spaces.values()):
            return ""
        return f"{self.table.source} has no {side}: {AGAIN}"

    async def close(self) -> None:
        """End the projections that are computed."""
        await self.projections.close()

    async def images(self, points: Sequence[int], model: ModelAccess | None) -> list[PointImage]:
        """Return what to show of points, in order; without their images, the model's reconstructions."""
        if model is None or model.details is None:
            return await self._images.get(points)
        manifest = model.details.manifest
        extracted_with = self.table.footer("manifest_sha256")
        if extracted_with in ("", manifest_hash(manifest)):  # A CSV file has no footer.
            return await self._images.get(points, manifest.image, lambda u, z: model.checked(model.call.decode(u, z)))
        found = await self._images.get(points, manifest.image)
        return [
            replace(image, reason=f"{image.reason}; {OTHER_MODEL}") if image.kind == "missing" else image
            for image in found
        ]

    def describe(self, point: int) -> list[str]:
        """Return lines of text about a point: its path or index, class and probability per factor, and scores."""
        table = self.table
        key = table.key_of(point)
        lines = [key if table.key == "path" else f"index {key}"]
        for factor in table.factors:
            if factor.classes is None:
                continue
            code = int(factor.classes.codes[point])
            name = factor.classes.values[code] if code >= 0 else "-"
            sure = "" if factor.confidence is None else f" ({factor.confidence[point]:.1%})"
            lines.append(f"{factor.name} {name}{sure}")
        lines += [f"{name} {numbers[point]:.4g}" for name, numbers in table.scores.items()]
        for name, categories in table.categories.items():
            code = int(categories.codes[point])
            if code >= 0:
                lines.append(f"{name}: {categories.values[code]}")
        return lines
