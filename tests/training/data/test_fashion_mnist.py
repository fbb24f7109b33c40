"""The loader of Fashion-MNIST, on small files in its format."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import struct
from pathlib import Path

import pytest
import torch

from partedvae.training.data import fashion_mnist
from partedvae.training.data.dataset import DataError
from partedvae.training.data.fetch import SystemPackage


def idx(values: torch.Tensor) -> bytes:
    """Return uint8 values as an IDX file."""
    shape = values.shape
    return struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape) + values.numpy().tobytes()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace the system package by one of 30 training and 10 test images, gzipped, with matching checksums."""
    folder = tmp_path / "system"
    folder.mkdir()
    contents = {}
    for part, count in (("train", 30), ("t10k", 10)):
        classes = torch.arange(count) % 10
        contents[f"{part}-labels-idx1-ubyte"] = idx(classes.to(torch.uint8))
        pixels = classes[:, None, None].expand(count, 28, 28) * 20
        contents[f"{part}-images-idx3-ubyte"] = idx(pixels.to(torch.uint8).contiguous())
    for name, content in contents.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    system = SystemPackage(name="dataset-fashion-mnist", folder=folder)
    source = dataclasses.replace(fashion_mnist.SOURCE, files=sums, system=system, mirrors=())
    monkeypatch.setattr(fashion_mnist, "SOURCE", source)
    return folder


def test_it_is_copied_from_the_system_package_and_then_read_from_the_data_folder(tmp_path: Path, package: Path) -> None:
    dataset = fashion_mnist.load_fashion_mnist(tmp_path)
    assert dataset.train.images.shape == (30, 28, 28, 1)
    assert dataset.train.labels[:, 0].tolist() == [*range(10)] * 3
    assert isinstance(dataset.test.images, torch.Tensor)
    assert dataset.test.images[7].unique().tolist() == [140]
    assert dataset.info.factors[0].classes[7:] == ("sneaker", "bag", "ankle boot")
    for file in package.iterdir():
        file.unlink()
    assert fashion_mnist.load_fashion_mnist(tmp_path).source == dataset.source


def test_another_file_of_that_name_is_an_error(tmp_path: Path, package: Path) -> None:
    (package / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"something else"))
    with pytest.raises(DataError, match="the downloaded t10k-labels-idx1-ubyte is not the original file"):
        fashion_mnist.load_fashion_mnist(tmp_path)
