"""`partedvae extract mnist:test` and the like read the same images as training, in the same order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from partedvae.common.dataset_files import FACES, IDX_IMAGES, IDX_LABELS, SPLITS
from partedvae.serving.extract.sources.open import open_source
from partedvae.serving.extract.sources.options import InputOptions
from partedvae.training.data import faces, mnist
from partedvae.training.data.dsprites import PackedSprites
from partedvae.training.data.registry import ENTRIES, load_dataset
from partedvae.v1.manifest_pb2 import ImageSpec


@pytest.mark.parametrize("split", ["train", "test"])
def test_mnist(split: str, data_dir: Path) -> None:
    expected = getattr(load_dataset("mnist", data_dir), split).images
    source = open_source(f"mnist:{split}", InputOptions(data_dir=data_dir))
    assert len(source) == len(expected)
    first = len(source) - 300
    (job,) = source.part(first, len(source)).jobs(300)
    prepared = job(ImageSpec(height=28, width=28, channels=1))
    assert prepared.keys == range(first, first + 300)
    np.testing.assert_array_equal(prepared.images, expected[first:].numpy())


def test_packed_sprites(tmp_path: Path) -> None:
    bits = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (20, 512), dtype=np.uint8)
    (tmp_path / "dsprites").mkdir()
    np.save(tmp_path / "dsprites" / "packed-0123456789abcdef.npy", bits)
    expected = PackedSprites(tmp_path / "dsprites" / "packed-0123456789abcdef.npy")[torch.arange(20)]
    source = open_source("dsprites", InputOptions(data_dir=tmp_path))
    (job,) = source.part(0, 20).jobs(20)
    np.testing.assert_array_equal(job(ImageSpec(height=64, width=64, channels=1)).images, expected.numpy())


def test_names_of_files() -> None:
    assert set(mnist.SOURCE.files) == {*IDX_IMAGES.values(), *IDX_LABELS.values()}
    assert set(SPLITS) <= set(ENTRIES)
    sizes = {"faces": faces.SMALL, "faces-large": faces.LARGE}
    assert {name: f"{size[0]}x{size[1]}" for name, size in sizes.items()} == FACES
