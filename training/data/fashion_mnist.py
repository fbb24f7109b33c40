"""Fashion-MNIST: 60,000 training and 10,000 test images of clothes, 28x28, grey, 55 MB; MNIST's format, ten classes."""

from __future__ import annotations

from pathlib import Path

from partedvae.training.data.dataset import DatasetInfo, FactorInfo, ImageDataset
from partedvae.training.data.fetch import Source, SystemPackage
from partedvae.training.data.idx import load_idx_dataset

SOURCE = Source(
    files={
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    system=SystemPackage(name="dataset-fashion-mnist", folder=Path("/usr/share/datasets/fashion-mnist")),
    mirrors=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",),
)

CLASSES = ("T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")

INFO = DatasetInfo(
    name="fashion-mnist",
    image_size=(28, 28, 1),
    factors=(FactorInfo(name="clothing", classes=CLASSES, prior=(0.1,) * 10),),
    train_images=60_000,
)


def load_fashion_mnist(data_dir: Path) -> ImageDataset:
    """Load Fashion-MNIST from `<data_dir>/fashion-mnist`, downloading it on first use.

    Raises:
        DataError: it is not available, or a file is not the original.
    """
    return load_idx_dataset(data_dir / "fashion-mnist", INFO, SOURCE)
