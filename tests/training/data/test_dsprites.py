"""dSprites, drawn and from a file in the format of the original."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from partedvae.training.data import dsprites
from partedvae.training.data.dataset import DataError, ImageDataset
from partedvae.training.data.sprites import COUNT, DrawnSprites


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> ImageDataset:
    return dsprites.load_dsprites(tmp_path_factory.mktemp("no-data"))


def index_of(shape: int, scale: int, orientation: int, x: int, y: int) -> int:
    """Return the index of a combination in the order of the original, written out."""
    return ((((shape * 6 + scale) * 40 + orientation) * 32 + x) * 32) + y


def image(dataset: ImageDataset, *factors: int) -> torch.Tensor:
    """Return one image, [64, 64]."""
    return dataset.train.images[torch.tensor([index_of(*factors)])][0, :, :, 0]


def centre(pixels: torch.Tensor) -> tuple[float, float]:
    """Return the mean row and column of the white pixels."""
    rows, columns = torch.nonzero(pixels, as_tuple=True)
    return rows.float().mean().item(), columns.float().mean().item()


def test_all_combinations_are_in_the_order_of_the_original_with_a_sample_for_testing(drawn: ImageDataset) -> None:
    assert drawn.train.images.shape == (737_280, 64, 64, 1)
    assert drawn.truth is not None
    assert drawn.truth.names == ("shape", "scale", "orientation", "x", "y")
    assert drawn.truth.values[index_of(2, 3, 39, 7, 21)].tolist() == [2, 3, 39, 7, 21]
    assert drawn.train.labels[:, 0].bincount().tolist() == [COUNT // 3] * 3
    assert len(drawn.test) == 40_000
    again = dsprites.load_dsprites(Path("/nowhere"))
    assert torch.equal(drawn.test.labels, again.test.labels)
    picked = torch.arange(50)
    assert torch.equal(drawn.test.images[picked], again.test.images[picked])
    assert drawn.source["dsprites"].startswith("drawn, an approximation")


def test_x_moves_to_the_right_and_y_down_by_a_pixel_each(drawn: ImageDataset) -> None:
    row, column = centre(image(drawn, 0, 2, 0, 0, 0))
    assert centre(image(drawn, 0, 2, 0, 31, 0)) == pytest.approx((row, column + 31))
    assert centre(image(drawn, 0, 2, 0, 0, 31)) == pytest.approx((row + 31, column))
    assert (row, column) == pytest.approx((16, 16))


def test_scale_grows_orientation_turns_and_the_last_orientation_is_the_first(drawn: ImageDataset) -> None:
    areas = [image(drawn, 1, scale, 0, 9, 9).count_nonzero().item() for scale in range(6)]
    assert areas == sorted(areas)
    assert areas[5] / areas[0] == pytest.approx(4, rel=0.1)
    lying, standing = image(drawn, 1, 5, 0, 9, 9), image(drawn, 1, 5, 10, 9, 9)
    assert lying.any(dim=0).sum() > 2 * lying.any(dim=1).sum() - 3
    assert standing.any(dim=1).sum() > 2 * standing.any(dim=0).sum() - 4
    assert torch.equal(lying, image(drawn, 1, 5, 39, 9, 9))


def test_no_shape_is_cut_and_the_pixels_have_the_originals_mean_and_deviation() -> None:
    sprites = DrawnSprites()
    edge_places = torch.tensor([0, 31, 31 * 32, 31 * 32 + 31])
    masks = torch.arange(720) * 1024
    whole = sprites[masks + 15 * 32 + 15].flatten(1).count_nonzero(dim=1)
    for place in edge_places:
        assert torch.equal(sprites[masks + place].flatten(1).count_nonzero(dim=1), whole)
    assert sprites[masks[::50]].unique().tolist() == [0, 255]
    # Every mask is fully visible at every position, so one position has the mean of all.
    mean = whole.double().mean().item() / 4096
    assert mean == pytest.approx(0.0425, abs=0.0005)
    assert (mean - mean**2) ** 0.5 == pytest.approx(0.202, abs=0.002)


def write_original(folder: Path, classes: np.ndarray, images: np.ndarray) -> Path:
    """Write a file in the format of the original: zipped arrays, images of 0 and 1."""
    folder.mkdir(parents=True)
    path = folder / dsprites.FILE
    np.savez_compressed(path, imgs=images, latents_classes=classes)
    return path


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Shrink the grid to 3 shapes, 1 scale, 1 orientation and 2 x 2 places, tested on 5; return its classes."""
    sizes = {"shape": 3, "scale": 1, "orientation": 1, "x": 2, "y": 2}
    monkeypatch.setattr(dsprites, "SIZES", sizes)
    monkeypatch.setattr(dsprites, "COUNT", 12)
    monkeypatch.setattr(dsprites, "TEST_IMAGES", 5)
    monkeypatch.setattr(dsprites, "CHUNK", 5)
    grid = np.indices((1, 3, 1, 1, 2, 2)).reshape(6, -1).T
    return grid.astype(np.int64)


def test_the_original_is_used_if_it_exists_and_packed_only_once(tmp_path: Path, few: np.ndarray) -> None:
    images = np.random.default_rng(0).integers(0, 2, (12, 64, 64), np.uint8)
    path = write_original(tmp_path / "dsprites", few, images)
    dataset = dsprites.load_dsprites(tmp_path)
    order = torch.tensor([11, 0, 5])
    assert torch.equal(dataset.train.images[order][..., 0], torch.from_numpy(images)[order] * 255)
    assert dataset.train.labels[:, 0].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert dataset.source == {dsprites.FILE: hashlib.sha256(path.read_bytes()).hexdigest()}
    packed = [file for file in path.parent.iterdir() if file != path]
    assert [file.suffix for file in packed] == [".npy"]
    written = packed[0].stat().st_mtime_ns
    dsprites.load_dsprites(tmp_path)
    assert packed[0].stat().st_mtime_ns == written


def test_a_damaged_file_or_one_in_another_order_or_shape_is_an_error(tmp_path: Path, few: np.ndarray) -> None:
    images = np.zeros((12, 64, 64), np.uint8)
    write_original(tmp_path / "order" / "dsprites", few[::-1], images)
    with pytest.raises(DataError, match="does not have every combination of the factors in the order of the original"):
        dsprites.load_dsprites(tmp_path / "order")
    write_original(tmp_path / "shape" / "dsprites", few, images[:, :32])
    with pytest.raises(DataError, match=r"imgs is uint8 \(12, 32, 64\), not uint8 \(12, 64, 64\)"):
        dsprites.load_dsprites(tmp_path / "shape")
    path = write_original(tmp_path / "cut" / "dsprites", few, images)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match=r"is not the dSprites file: .*; download it again"):
        dsprites.load_dsprites(tmp_path / "cut")
    assert list((tmp_path / "cut" / "dsprites").glob("packed*")) == []
