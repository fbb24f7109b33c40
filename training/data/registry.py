"""All data sets by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from training.data import mnist
from training.data.dataset import DatasetInfo, ImageDataset
from training.names import lookup


@dataclass(frozen=True, kw_only=True)
class Entry:
    """How a data set is described and loaded."""

    describe: Callable[[Path], DatasetInfo]
    """Data folder in, description out; reads no images."""
    load: Callable[[Path], ImageDataset]
    """Data folder in, data set out; fetches or draws it the first time."""
    summary: str
    """One line for `partedvae data list`."""


ENTRIES: dict[str, Entry] = {
    "mnist": Entry(
        describe=lambda _: mnist.INFO, load=mnist.load_mnist, summary="handwritten digits, 28x28 grey, 60,000 + 10,000"
    ),
}


def entry(name: str) -> Entry:
    """Return how a data set is described and loaded.

    Raises:
        ValueError: no data set has that name; the message has the nearest.
    """
    return lookup("data set", name, ENTRIES)


def load_dataset(name: str, data_dir: Path) -> ImageDataset:
    """Load a data set by name.

    Raises:
        ValueError: no data set has that name.
        DataError: it cannot be had.
    """
    return entry(name).load(data_dir)
