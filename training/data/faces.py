"""Drawn faces: 20,000 training and 2,000 test images, RGB, seven labelled factors, true factors known.

A substitute for CelebA. `faces` is 64x64, in memory (270 MB); `faces-large` is 218x178, the size of CelebA,
memory-mapped (2.6 GB on disk). They are drawn on first use, on all processors, and stored in `<data>/faces`.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from partedvae.common.atomic_write import atomic_write
from partedvae.common.cpus import available_cpus
from partedvae.common.progress import progress_bar
from partedvae.training.data import avatars
from partedvae.training.data.dataset import (
    UNLABELLED,
    Amount,
    DataError,
    DatasetInfo,
    FactorInfo,
    ImageDataset,
    Images,
    Split,
    Truth,
)
from partedvae.training.data.memmap import MappedImages, create_mapped

SMALL = (64, 64)
LARGE = (218, 178)
TRAIN_IMAGES = 20_000
TEST_IMAGES = 2_000
TRAIN_SEED = 1
TEST_SEED = 2

CHUNK = 32
"""Faces per task of a worker process."""
FEW = 256
"""Up to so many faces are drawn in this process, as starting others would take longer."""


def faces_info(size: tuple[int, int], train_images: int = TRAIN_IMAGES) -> DatasetInfo:
    """Return the description of the faces of a size (height and width)."""
    factors = tuple(
        FactorInfo(name=name, classes=attribute.values, prior=attribute.probabilities)
        for name, attribute in avatars.LABELLED.items()
    )
    name = "faces" if size == SMALL else "faces-large"
    return DatasetInfo(name=name, image_size=(*size, 3), factors=factors, train_images=train_images)


def load_faces(
    data_dir: Path, size: tuple[int, int] = SMALL, *, train: int = TRAIN_IMAGES, test: int = TEST_IMAGES
) -> ImageDataset:
    """Load the faces from `<data_dir>/faces`; they are drawn on first use.

    A label is missing where its attribute is invisible: colour and length of hair under a hat, and the hair colour of
    bald heads (although a beard of nearly the same colour may show it). The true factors include these values, and
    those of the unlabelled attributes that are visible in every image. Within some classes faces differ in an amount,
    such as the size of a beard.

    Args:
        data_dir: folder of the data sets.
        size: height and width.
        train: number of training images.
        test: number of test images.

    Raises:
        DataError: the faces are not drawn yet and the packages for drawing are missing.
    """
    info = faces_info(size, train)
    folder = data_dir / "faces"
    values = {"train": avatars.sample_faces(train, TRAIN_SEED), "test": avatars.sample_faces(test, TEST_SEED)}
    images = {name: _images(folder, name, rows, size) for name, rows in values.items()}
    splits = {name: Split(images=images[name], labels=_labels(torch.from_numpy(rows))) for name, rows in values.items()}
    true_names = (*avatars.LABELLED, *avatars.VISIBLE)
    truth = Truth(
        images=images["train"],
        names=true_names,
        values=torch.from_numpy(values["train"][:, : len(true_names)].copy()),
        amounts=tuple(
            Amount(name=name, factor=factor, label=label, values=torch.from_numpy(amount))
            for name, factor, label, amount in avatars.amounts(values["train"])
        ),
    )
    source = {
        _file_name(name, rows, size): f"drawn, seed {TRAIN_SEED if name == 'train' else TEST_SEED}"
        for name, rows in values.items()
    }
    return ImageDataset(info=info, train=splits["train"], test=splits["test"], source=source, truth=truth)


def faces_are_available(data_dir: Path, size: tuple[int, int]) -> bool:
    """Return whether the faces of a size have been drawn."""
    counts = {"train": (TRAIN_IMAGES, TRAIN_SEED), "test": (TEST_IMAGES, TEST_SEED)}
    return all(
        (data_dir / "faces" / _file_name(name, avatars.sample_faces(count, seed), size)).is_file()
        for name, (count, seed) in counts.items()
    )


def _labels(values: Int[Tensor, "count attributes"]) -> Int[Tensor, "count factors"]:
    """Return the labelled attributes, with -1 where one is invisible."""
    column = {name: k for k, name in enumerate(avatars.LABELLED)}
    labels = values[:, : len(column)].clone()
    hat = labels[:, column["hat"]] == avatars.LABELLED["hat"].values.index("hat")
    bald = labels[:, column["hair"]] == avatars.LABELLED["hair"].values.index("bald")
    labels[hat | bald, column["hair_color"]] = UNLABELLED
    labels[hat, column["hair"]] = UNLABELLED
    return labels


def _file_name(split: str, values: NDArray[np.int64], size: tuple[int, int]) -> str:
    return f"{split}-{size[0]}x{size[1]}-{avatars.table_digest(values, size)}.npy"


def _images(folder: Path, split: str, values: NDArray[np.int64], size: tuple[int, int]) -> Images:
    """Open the file of a split; it is drawn on first use."""
    path = folder / _file_name(split, values, size)
    if not path.is_file():
        _require_packages()
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            _draw_file(temporary, split, values, size)
    if size == SMALL:
        return torch.from_numpy(np.load(path))
    return MappedImages(path)


def _require_packages() -> None:
    missing = [name for name in ("python_avatars", "resvg_py") if importlib.util.find_spec(name) is None]
    if missing:
        raise DataError(f"drawing faces requires {' and '.join(missing)}; install with: pip install 'partedvae[faces]'")


def _draw_file(path: Path, split: str, values: NDArray[np.int64], size: tuple[int, int]) -> None:
    """Draw faces into a memory-mapped .npy file, chunk by chunk."""
    shape = (len(values), *size, 3)
    pixels = create_mapped(path, shape)
    with progress_bar(len(values), unit="img", title=f"drawing {split} faces {size[0]}x{size[1]}") as bar:
        start = 0
        for drawn in _drawn(values, size):
            pixels[start : start + len(drawn)] = drawn
            start += len(drawn)
            bar.update(len(drawn))
    pixels.flush()


def _drawn(values: NDArray[np.int64], size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """Yield chunks of drawn faces, in order; the result does not depend on the number of processes."""
    tasks = [(values[start : start + CHUNK], size) for start in range(0, len(values), CHUNK)]
    if len(values) <= FEW:
        yield from map(avatars.draw_faces, tasks)
        return
    # Spawn, not fork: a fork would copy the locks of PyTorch's threads.
    with multiprocessing.get_context("spawn").Pool(available_cpus()) as pool:
        yield from pool.imap(avatars.draw_faces, tasks)
