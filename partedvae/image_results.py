"""Images that a model made, and what they show: dataclasses of arrays that notebooks display as a labelled grid."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from partedvae.results import FloatArray, ImageArray, plural, shortened
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.tensors_pb2 import Images

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

    from partedvae.grid import Row

MAX_DISPLAYED = 400
"""Images that a notebook displays as a picture; for more it shows the `repr`."""


class _Displayed(ABC):
    """Shows a result as a picture in notebooks, and as one line of text elsewhere."""

    images: ImageArray
    model: str
    version: int

    @abstractmethod
    def to_pil(self) -> PillowImage:
        """Return the images as one labelled picture."""

    def _repr_png_(self) -> bytes | None:
        """Return the picture for Jupyter, which shows the `repr` for None: without Pillow, or for too many images."""
        if np.prod(self.images.shape[:-3]) > MAX_DISPLAYED:
            return None
        try:
            from partedvae.grid import png_bytes
        except ModuleNotFoundError:
            return None
        return png_bytes(self.to_pil())

    def _draw(self, rows: Sequence[Row], *details: str) -> PillowImage:
        from partedvae.grid import labelled_grid

        return labelled_grid(rows, ", ".join([f"{self.model} version {self.version}", *details]))

    def _described(self, count: str, *details: str) -> str:
        size = " x ".join(map(str, self.images.shape[-3:]))
        parts = [f"{count}, {size}", *details, f"model {self.model}/{self.version}"]
        return f"{type(self).__name__}({', '.join(parts)})"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Generated(_Displayed):
    """New images with the class of each."""

    images: ImageArray
    """uint8 [images, height, width, channels], at the model's size."""
    classes: Mapping[str, NDArray[np.str_]]
    """For each factor by name, in the model's order, the class name of every image, [images]."""
    seed: int
    """The seed that was used: the same seed gives the same images from the same model."""
    model: str = ""
    """Name of the model."""
    version: int = 0
    """Version of the model."""

    @classmethod
    def from_response(cls, response: pb.GenerateResponse) -> Self:
        """Read generated images and their classes."""
        return cls(
            images=read_images(response.images),
            classes=_class_names(response.factors),
            seed=response.seed,
            model=response.model.name,
            version=response.model.version,
        )

    def to_pil(self) -> PillowImage:
        """Return the images as one picture, each with its class above it. Needs Pillow."""
        from partedvae.grid import wrapped

        return self._draw(wrapped(self.images, _joined_names(self.classes)), f"seed {self.seed}")

    def __repr__(self) -> str:
        classes = [f"{factor}: {shortened(names.tolist())}" for factor, names in self.classes.items()]
        return self._described(plural(len(self.images), "image"), *classes, f"seed {self.seed}")


@dataclass(frozen=True, kw_only=True, eq=False)
class TraversalRow:
    """What one row of a traversal shows."""

    base: int
    """Position of the base that it starts from."""
    dimension: int | None
    """The dimension that changes; None where the class does."""
    values: FloatArray
    """The dimension's value in each column, [columns]; empty where the class changes."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Traversal(_Displayed):
    """Images in which one latent dimension, or the class, changes along each row."""

    images: ImageArray
    """uint8 [rows, columns, height, width, channels], at the model's size."""
    rows: tuple[TraversalRow, ...]
    """What each row shows: bases outermost, then dimensions."""
    class_names: tuple[str, ...]
    """The class of each column, where the class changes; otherwise empty."""
    classes: Mapping[str, NDArray[np.str_]]
    """For each factor by name, the class of every base, [bases]."""
    along: str = "z"
    """What changes: "z", "u" or "classes"."""
    seed: int | None = None
    """The seed of bases that were drawn."""
    model: str = ""
    """Name of the model."""
    version: int = 0
    """Version of the model."""

    @classmethod
    def from_response(cls, response: pb.TraverseResponse, along: str) -> Self:
        """Read a grid of traversals.

        Args:
            response: the server's.
            along: as in the request.
        """
        return cls(
            images=_grid(response.grid),
            rows=tuple(
                TraversalRow(
                    base=row.base,
                    dimension=row.dimension if row.HasField("dimension") else None,
                    values=np.array(row.values, dtype=np.float32),
                )
                for row in response.rows
            ),
            class_names=tuple(response.class_names),
            classes=_class_names(response.base_classes),
            along=along,
            seed=response.seed if response.HasField("seed") else None,
            model=response.model.name,
            version=response.model.version,
        )

    def to_pil(self, bases: Sequence[str] = ()) -> PillowImage:
        """Return the images as one picture. Needs Pillow.

        Args:
            bases: a name per base, for the labels of the rows; their classes by default.
        """
        from partedvae.grid import Row

        names = bases or _joined_names(self.classes, qualified=False)
        dimensions = ["" if row.dimension is None else f" {self.along}{row.dimension}" for row in self.rows]
        rows = [
            Row(images=images, label=names[row.base] + dimension, captions=self.class_names)
            for images, row, dimension in zip(self.images, self.rows, dimensions, strict=True)
        ]
        return self._draw(rows, *([] if self.seed is None else [f"seed {self.seed}"]))

    def __repr__(self) -> str:
        details = [f"along {self.along}"] + ([] if self.seed is None else [f"seed {self.seed}"])
        return self._described(_grid_size(self.images), *details)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Transferred(_Displayed):
    """Images that combine the class-related u of some images, or of classes, with the z of others."""

    images: ImageArray
    """uint8 [rows, columns, height, width, channels]: one row per u, one column per z; of pairs [pairs, 1, …]."""
    model: str = ""
    """Name of the model."""
    version: int = 0
    """Version of the model."""

    @classmethod
    def from_response(cls, response: pb.TransferAttributesResponse) -> Self:
        """Read a grid of transfers."""
        return cls(images=_grid(response.grid), model=response.model.name, version=response.model.version)

    def to_pil(
        self,
        rows: Sequence[str] = (),
        columns: Sequence[str] = (),
        *,
        contents: Sequence[str] | None = None,
        styles: Sequence[str] | None = None,
    ) -> PillowImage:
        """Return the images as one picture. Needs Pillow.

        Args:
            rows: labels of the rows.
            columns: captions of the columns.
            contents: deprecated, use `rows`.
            styles: deprecated, use `columns`.
        """
        from partedvae.grid import Row

        if contents is not None or styles is not None:
            warnings.warn(
                "contents and styles of to_pil are deprecated: pass rows and columns", DeprecationWarning, stacklevel=2
            )
        labels, captions = contents or rows or [""] * len(self.images), styles or columns
        pairs = zip(self.images, labels, strict=True)
        return self._draw([Row(images=images, label=label, captions=captions) for images, label in pairs])

    def __repr__(self) -> str:
        return self._described(_grid_size(self.images))


def read_images(message: Images) -> ImageArray:
    """Return packed images as uint8 [count, height, width, channels]."""
    pixels = np.frombuffer(message.packed.data, dtype=np.uint8).reshape(tuple(message.packed.shape)).copy()
    return pixels[..., np.newaxis] if pixels.ndim == 3 else pixels


def _grid(grid: pb.ImageGrid) -> ImageArray:
    pixels = read_images(grid.images)
    return pixels.reshape(grid.rows, grid.columns, *pixels.shape[1:])


def _grid_size(images: ImageArray) -> str:
    return f"{plural(images.shape[0], 'row')} of {plural(images.shape[1], 'image')}"


def _class_names(factors: Iterable[pb.FactorClasses]) -> dict[str, NDArray[np.str_]]:
    return {
        factor.name: np.array(factor.class_names)[np.array(factor.class_indices, dtype=np.int64)] for factor in factors
    }


def _joined_names(classes: Mapping[str, NDArray[np.str_]], *, qualified: bool = True) -> list[str]:
    """Return one text per image with its class of every factor, "factor=NAME" where there are several factors."""
    several = qualified and len(classes) > 1
    columns = [[f"{factor}={name}" if several else str(name) for name in names] for factor, names in classes.items()]
    return [", ".join(names) for names in zip(*columns, strict=True)]
