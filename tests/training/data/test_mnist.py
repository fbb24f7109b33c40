"""The real MNIST, downloaded on first use."""

from __future__ import annotations

import torch

from partedvae.training.data.dataset import ImageDataset


def test_mnist_is_complete(mnist: ImageDataset) -> None:
    assert mnist.train.images.shape == (60_000, 28, 28, 1)
    assert mnist.test.images.shape == (10_000, 28, 28, 1)
    assert mnist.train.labels[:8, 0].tolist() == [5, 0, 4, 1, 9, 2, 1, 3]
    assert mnist.test.labels[:4, 0].tolist() == [7, 2, 1, 0]
    pixels = mnist.train.images
    assert isinstance(pixels, torch.Tensor)
    assert round(pixels.float().mean().item() / 255, 4) == 0.1307
