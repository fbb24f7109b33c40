"""Types of a data set: its description, images, labels and splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from partedvae.common.data_error import DataError as DataError

UNLABELLED = -1
"""Label of an image whose class of a factor is unknown."""

LabelUse = Literal["required", "optional", "ignored"]
"""Whether a folder of images must have labels; without any, and where they are ignored, its factor is `CLUSTERS`."""


@dataclass(frozen=True, kw_only=True)
class FactorInfo:
    """A labelled factor of a data set."""

    name: str
    """Name of the factor, "digit" for MNIST."""
    classes: tuple[str, ...]
    """Names of its classes."""
    prior: tuple[float, ...] | None = None
    """p(c_k) as given by the authors of the data set or the paper; None if unknown."""


def count_labels(labels: Int[Tensor, "count factors"]) -> list[int]:
    """Return the number of labelled images of each factor."""
    counts: list[int] = (labels != UNLABELLED).sum(dim=0).tolist()
    return counts


CLUSTERS = FactorInfo(name="cluster", classes=tuple("0123456789"))
"""The factor of images without labels: groups of similar images, which training finds."""


def size_text(image_size: Sequence[int]) -> str:
    """Return a size for messages: "28x28x1"."""
    return "x".join(map(str, image_size))


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """Description of a data set, available without loading its images."""

    name: str
    """Name in the registry, or "folder:PATH"."""
    image_size: tuple[int, int, int]
    """Height, width and channels."""
    factors: tuple[FactorInfo, ...]
    """The labelled factors."""
    train_images: int
    """Number of training images."""
    labelled_images: int | None = None
    """Number of training images with a label, if a recipe should use all of them; None if all images have labels."""


@runtime_checkable
class Images(Protocol):
    """Images by index: a uint8 tensor in memory, or an object that creates or reads them on access."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Count, height, width, channels."""

    def __len__(self) -> int:
        """Count the images."""

    def __getitem__(self, indices: Tensor) -> UInt8[Tensor, "batch height width channels"]:
        """Return the images of an index tensor, in its order."""


@dataclass(frozen=True, kw_only=True)
class SplitFiles:
    """The files of a split's images."""

    names: tuple[str, ...]
    """Paths of the images relative to the folder of the data set, in order."""
    held_out: frozenset[str]
    """Paths of the test images of the data set, for error messages about them."""

    def take(self, indices: Sequence[int]) -> SplitFiles:
        """Return the files of some of the images."""
        return replace(self, names=tuple(self.names[index] for index in indices))


@dataclass(frozen=True, kw_only=True)
class Split:
    """One part of a data set."""

    images: Images
    """The pixels."""
    labels: Int[Tensor, "count factors"]
    """Class indices, one column per factor; -1 where not labelled."""
    files: SplitFiles | None = None
    """Files of the images, if they are the user's own and may be listed by name."""

    def __len__(self) -> int:
        """Count the images."""
        return len(self.images)

    def take(self, indices: Int[Tensor, " chosen"]) -> Split:
        """Return the images of some indices, without loading images that are not in memory."""
        images = self.images[indices] if isinstance(self.images, Tensor) else Chosen(self.images, indices)
        files = None if self.files is None else self.files.take(indices.tolist())
        return Split(images=images, labels=self.labels[indices], files=files)

    def first(self, count: int) -> Split:
        """Return the first `count` images."""
        return self.take(torch.arange(count))


@dataclass(frozen=True)
class Chosen:
    """A subset of other images."""

    source: Images
    indices: Int[Tensor, " chosen"]

    @property
    def shape(self) -> tuple[int, ...]:
        """Count, height, width, channels."""
        return (len(self.indices), *self.source.shape[1:])

    def __len__(self) -> int:
        """Count the images."""
        return len(self.indices)

    def __getitem__(self, indices: Tensor) -> UInt8[Tensor, "batch height width channels"]:
        """Return the images of an index tensor, in its order."""
        return self.source[self.indices[indices]]


@dataclass(frozen=True, kw_only=True)
class Amount:
    """A true amount that images of one class of a labelled factor differ in, and that no label has."""

    name: str
    """Name of the amount, "size"."""
    factor: str
    """Name of the labelled factor, "facial_hair"."""
    label: str
    """Name of its class, "beard"."""
    values: Float[Tensor, " count"]
    """Amount of each image; NaN for images of other classes."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The true factors of variation of some images, labelled or not, for disentanglement scores."""

    images: Images
    """The images that scores are computed on."""
    names: tuple[str, ...]
    """Names of the true factors."""
    values: Int[Tensor, "count true_factors"]
    """Values of the true factors, starting at 0."""
    amounts: tuple[Amount, ...] = ()
    """True amounts within classes of labelled factors, if there are any."""


@dataclass(frozen=True, kw_only=True)
class ImageDataset:
    """A data set, ready to train on."""

    info: DatasetInfo
    """Its description."""
    train: Split
    """The training images; a run chooses the labels that it uses."""
    test: Split
    """The test images, labelled."""
    source: dict[str, str]
    """Origin of each file: its SHA-256, or how it was drawn. Recorded in the run directory."""
    truth: Truth | None = None
    """The true factors, if they are known."""
    notes: tuple[str, ...] = ()
    """What was left out of the user's own files, or is read in a way that may surprise, one sentence each."""


def with_labels(split: Split, count: int) -> Int[Tensor, " labelled"]:
    """Return the indices of all images that have a label for any factor.

    Raises:
        DataError: there are fewer than `count`.
    """
    labelled = torch.nonzero((split.labels != UNLABELLED).any(dim=1)).squeeze(1)
    if count > len(labelled):
        raise DataError(
            f"--labels {count} is more than the {len(labelled)} labelled training images; use at most that many"
        )
    return labelled


def first_labelled(split: Split, count: int) -> Int[Tensor, " chosen"]:
    """Return the indices of the first `count` images that have a label for any factor.

    Raises:
        DataError: the split has fewer.
    """
    return with_labels(split, count)[:count]
