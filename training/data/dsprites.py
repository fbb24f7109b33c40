"""dSprites: 737,280 images of a white shape on black, 64x64, in every combination of five factors (paper appendix B).

The original is used if its file exists, and otherwise drawn; `source` records which. Memory: 35 MB for labels and true
factors, and 7 MB for drawn images; the original is stored with one bit per pixel in a memory-mapped file of 377 MB,
which processes share and the system can evict.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from partedvae.common.atomic_write import atomic_write
from partedvae.training.data.dataset import DataError, DatasetInfo, FactorInfo, ImageDataset, Images, Split, Truth
from partedvae.training.data.memmap import create_mapped
from partedvae.training.data.sprites import COUNT, SHAPES, SIDE, SIZES, DrawnSprites

FILE = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
TEST_IMAGES = 40_000
TEST_SEED = 0
PIXELS = SIDE * SIDE
CHUNK = 4096
"""Images packed at a time."""

INFO = DatasetInfo(
    name="dsprites",
    image_size=(SIDE, SIDE, 1),
    factors=(FactorInfo(name="shape", classes=SHAPES, prior=(1 / 3,) * 3),),
    train_images=COUNT,
)


class PackedSprites:
    """The original's images, one bit per pixel in a memory-mapped file."""

    memory = "377 MB of bits in a memory-mapped file; images are unpacked on access"

    def __init__(self, path: Path) -> None:
        """Open the packed file, uint8 [count, 512]."""
        self._bits: NDArray[np.uint8] = np.load(path, mmap_mode="r")

    @property
    def shape(self) -> tuple[int, ...]:
        """Count, height, width, channels."""
        return (len(self._bits), SIDE, SIDE, 1)

    def __len__(self) -> int:
        """Count the images."""
        return len(self._bits)

    def __getitem__(self, indices: Tensor) -> UInt8[Tensor, "batch height width channels"]:
        """Return the images of an index tensor, in its order; uint8 0 or 255."""
        bits = np.unpackbits(self._bits[indices.numpy()], axis=1)
        return torch.from_numpy(bits * np.uint8(255)).reshape(-1, SIDE, SIDE, 1)


def load_dsprites(data_dir: Path) -> ImageDataset:
    """Load dSprites: the original from `<data_dir>/dsprites`, or a drawn approximation.

    All images are for training. The test images are a fixed sample of 40,000 of them, and therefore also in
    the training data: as in the paper, nothing is held out, and the test measures whether the labels generalise to
    the unlabelled images.

    Raises:
        DataError: the original file exists but is damaged, or its images are in another order.
    """
    original = data_dir / "dsprites" / FILE
    images: Images
    if original.is_file():
        digest = hashlib.sha256(original.read_bytes()).hexdigest()
        images = PackedSprites(_packed(original, digest))
        source = {FILE: digest}
    else:
        images = DrawnSprites()
        source = {"dsprites": f"drawn, an approximation of the original, which would be {original}"}
    values = true_values()
    train = Split(images=images, labels=values[:, :1].clone())
    sample = torch.randperm(COUNT, generator=torch.Generator().manual_seed(TEST_SEED))[:TEST_IMAGES]
    truth = Truth(images=images, names=tuple(SIZES), values=values)
    return ImageDataset(info=INFO, train=train, test=train.take(sample), source=source, truth=truth)


def true_values() -> Int[Tensor, "count true_factors"]:
    """Return shape, scale, orientation, x and y of every image, in the original's order."""
    return torch.cartesian_prod(*(torch.arange(size) for size in SIZES.values()))


def _packed(original: Path, digest: str) -> Path:
    """Return the packed copy of the original, created on first use; its name contains the checksum of the original."""
    path = original.with_name(f"packed-{digest[:16]}.npy")
    if not path.exists():
        try:
            with zipfile.ZipFile(original) as archive:
                _check_order(archive)
                with atomic_write(path) as temporary:
                    _pack(archive, temporary)
        except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, ValueError) as error:
            raise DataError(f"{original} is not the dSprites file: {error}; download it again") from error
    return path


def _check_order(archive: zipfile.ZipFile) -> None:
    with archive.open("latents_classes.npy") as member:
        classes = npy.read_array(member)
    expected = np.pad(true_values().numpy(), ((0, 0), (1, 0)))  # the first of the six is the colour, always 0
    if not np.array_equal(classes, expected):
        raise DataError("it does not have every combination of the factors in the order of the original")


def _pack(archive: zipfile.ZipFile, path: Path) -> None:
    """Pack images of 0 and 1 while reading the archive, as all of them would need 3 GB of memory."""
    with archive.open("imgs.npy") as member:
        version = npy.read_magic(member)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read_header(member)
        if shape != (COUNT, SIDE, SIDE) or fortran or dtype != np.uint8:
            raise DataError(f"imgs is {dtype} {shape}, not uint8 {(COUNT, SIDE, SIDE)}")
        packed = create_mapped(path, (COUNT, PIXELS // 8))
        for start in range(0, COUNT, CHUNK):
            rows = min(CHUNK, COUNT - start)
            content = member.read(rows * PIXELS)
            packed[start : start + rows] = np.packbits(np.frombuffer(content, np.uint8).reshape(rows, PIXELS), axis=1)
        packed.flush()
