"""What a data set is to the rest of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

UNLABELLED = -1
"""The label of an image whose class is not known, for one factor."""


class DataError(ValueError):
    """A data set cannot be had or is not what it should be; the message tells what the user can do."""


@dataclass(frozen=True, kw_only=True)
class FactorInfo:
    """A labelled factor of a data set."""

    name: str
    """Name of the factor, "digit" for MNIST."""
    classes: tuple[str, ...]
    """Names of its classes."""
    prior: tuple[float, ...] | None = None
    """p(c_k) where the data set's authors or the paper give it; None where it is not known."""


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """What can be said of a data set without loading its images."""

    name: str
    """Its name in the registry, or "folder:PATH"."""
    image_size: tuple[int, int, int]
    """Height, width and channels."""
    factors: tuple[FactorInfo, ...]
    """Its labelled factors."""
    train_images: int
    """Training images."""
    labelled_images: int | None = None
    """Training images with a label, where not all have one and a recipe should use all that there are."""


@runtime_checkable
class Images(Protocol):
    """Images by their indices: a uint8 tensor in memory, or something that makes or reads them when asked."""

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
    """Of the images, in their order: paths relative to the data set's folder."""
    held_out: frozenset[str]
    """Of the data set's test images, so that it can be told when one of them is asked for."""

    def take(self, indices: Sequence[int]) -> SplitFiles:
        """Return the files of some of the images."""
        return replace(self, names=tuple(self.names[index] for index in indices))


@dataclass(frozen=True, kw_only=True)
class Split:
    """One part of a data set."""

    images: Images
    """The pixels."""
    labels: Int[Tensor, "count factors"]
    """Class indices, one column a factor; -1 where not labelled."""
    files: SplitFiles | None = None
    """What the images are called, where the user's own files may be named in a list."""

    def __len__(self) -> int:
        """Count the images."""
        return len(self.images)

    def take(self, indices: Int[Tensor, " chosen"]) -> Split:
        """Return the images of some indices; what is not in memory is not loaded by it."""
        images = self.images[indices] if isinstance(self.images, Tensor) else Chosen(self.images, indices)
        files = None if self.files is None else self.files.take(indices.tolist())
        return Split(images=images, labels=self.labels[indices], files=files)

    def first(self, count: int) -> Split:
        """Return the first `count` images."""
        return self.take(torch.arange(count))


@dataclass(frozen=True)
class Chosen:
    """Some of the images of another source."""

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
class Truth:
    """The true factors of variation of some images, for disentanglement scores: labelled or not, classes or places."""

    images: Images
    """The images that scores are computed on."""
    names: tuple[str, ...]
    """Names of the true factors."""
    values: Int[Tensor, "count true_factors"]
    """Their values, counted from 0."""


@dataclass(frozen=True, kw_only=True)
class ImageDataset:
    """A data set, ready to train on."""

    info: DatasetInfo
    """What can be said of it without its images."""
    train: Split
    """The training images; which labels of theirs are used is the run's choice."""
    test: Split
    """The test images, labelled."""
    source: dict[str, str]
    """Where it came from: SHA-256 by file name, or how it was drawn. Goes into the run directory."""
    truth: Truth | None = None
    """The true factors, where they are known."""


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
