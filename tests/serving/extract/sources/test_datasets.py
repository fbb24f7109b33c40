"""Registered data sets as inputs."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from partedvae.common.dataset_files import FACES, IDX_IMAGES, IDX_LABELS, SPLITS
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.extract.sources.open import open_source
from partedvae.serving.extract.sources.options import InputOptions
from partedvae.v1.manifest_pb2 import ImageSpec
from tests.serving.extract.sources.reading import IMAGES, read
from tests.serving.extraction import idx


def test_rows_are_those_of_training(data_dir: Path) -> None:
    """In the same order, for the data sets that the checkout has."""
    registry = pytest.importorskip("partedvae.training.data.registry")
    if not (data_dir / "mnist" / IDX_IMAGES["test"]).exists():
        pytest.skip("MNIST is not in the data folder")
    dataset = registry.load_dataset("mnist", data_dir)
    for split in ("train", "test"):
        source = open_source(f"mnist:{split}", InputOptions(data_dir=data_dir))
        expected = getattr(dataset, split).images
        assert len(source) == len(expected)
        first = len(source) - 300
        (job,) = source.part(first, len(source)).jobs(300)
        prepared = job(ImageSpec(height=28, width=28, channels=1))
        assert prepared.keys == range(first, first + 300)
        np.testing.assert_array_equal(prepared.images, expected[first:].numpy())


def test_names_of_files_are_those_of_training() -> None:
    faces = pytest.importorskip("partedvae.training.data.faces")
    mnist = pytest.importorskip("partedvae.training.data.mnist")
    registry = pytest.importorskip("partedvae.training.data.registry")
    assert set(mnist.SOURCE.files) == {*IDX_IMAGES.values(), *IDX_LABELS.values()}
    assert set(SPLITS) <= set(registry.ENTRIES)
    sizes = {"faces": faces.SMALL, "faces-large": faces.LARGE}
    assert {name: f"{size[0]}x{size[1]}" for name, size in sizes.items()} == FACES


def test_packed_sprites_are_those_of_training(tmp_path: Path) -> None:
    dsprites = pytest.importorskip("partedvae.training.data.dsprites")
    torch = pytest.importorskip("torch")
    bits = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (20, 512), dtype=np.uint8)
    (tmp_path / "dsprites").mkdir()
    np.save(tmp_path / "dsprites" / "packed-0123456789abcdef.npy", bits)
    expected = dsprites.PackedSprites(tmp_path / "dsprites" / "packed-0123456789abcdef.npy")[torch.arange(20)]
    source = open_source("dsprites", InputOptions(data_dir=tmp_path))
    (job,) = source.part(0, 20).jobs(20)
    np.testing.assert_array_equal(job(ImageSpec(height=64, width=64, channels=1)).images, expected.numpy())


def test_the_faces_that_were_drawn_last_are_read(tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    np.save(tmp_path / "faces/test-64x64-old.npy", IMAGES[:3])
    np.save(tmp_path / "faces/test-64x64-new.npy", IMAGES[:5])
    np.save(tmp_path / "faces/test-218x178-new.npy", IMAGES[:7])

    os.utime(tmp_path / "faces/test-64x64-old.npy", (1, 1))
    assert len(read("faces:test", data_dir=tmp_path).keys) == 5
    assert len(read("faces-large:test", data_dir=tmp_path).keys) == 7


def test_a_folder_of_that_name_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mnist").mkdir()
    with pytest.raises(InvalidInputError, match="mnist contains no images"):
        open_source("mnist", InputOptions(data_dir=tmp_path))
    Path("mnist/t10k-images-idx3-ubyte").write_bytes(idx(IMAGES[..., 0]))
    np.testing.assert_array_equal(read("mnist:test", data_dir=tmp_path).images, IMAGES)


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (
            "mnist:test",
            {},
            "the data set mnist is not in {data}: get it with 'partedvae data get mnist', or pass --data",
        ),
        ("mnist:tset", {}, "'mnist:tset' is not a split of the data set mnist; write mnist:train or mnist:test"),
        ("mnist", {}, "'mnist' is not a split of the data set mnist; write mnist:train or mnist:test"),
        ("dsprites:test", {}, "'dsprites:test' is not a split of the data set dsprites; write dsprites:train"),
        ("dsprites", {}, "the data set dsprites is not in {data}: get it with 'partedvae data get dsprites'"),
        ("mnist:test", {"columns": ("x",)}, "--columns is for tables and tar archives, and mnist:test is neither"),
    ],
)
def test_a_data_set_that_cannot_be_read(
    given: str, options: dict[str, tuple[str, ...]], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInputError) as caught:
        open_source(given, InputOptions(data_dir=tmp_path, columns=options.get("columns", ())))
    assert str(caught.value).startswith(message.format(data=tmp_path))


def test_paths_of_an_array_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", IMAGES)
    with pytest.raises(InvalidInputError, match=r"--path-style is for images with paths, and the rows of .* an index"):
        open_source(tmp_path / "x.npy", InputOptions(path_style="url"))
