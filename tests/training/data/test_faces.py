"""Drawn faces, on a small number of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from partedvae.training.data import avatars, faces
from partedvae.training.data.dataset import DataError, ImageDataset

HAIR_COLOR, HAIR, SKIN_TONE, FACIAL_HAIR, GLASSES, SMILING, HAT = range(7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def few(folder: Path) -> ImageDataset:
    return faces.load_faces(folder, train=40, test=6)


def test_the_labelled_factors_are_described_with_their_sampling_probabilities(few: ImageDataset) -> None:
    assert [factor.name for factor in few.info.factors] == [
        "hair_color",
        "hair",
        "skin_tone",
        "facial_hair",
        "glasses",
        "smiling",
        "hat",
    ]
    values = avatars.sample_faces(20_000, seed=1)
    for column, factor in enumerate(few.info.factors):
        assert factor.prior is not None
        assert sum(factor.prior) == pytest.approx(1)
        shares = np.bincount(values[:, column], minlength=len(factor.classes)) / len(values)
        assert shares == pytest.approx(np.array(factor.prior), abs=0.012)
    for column, attribute in enumerate(avatars.ATTRIBUTES.values()):
        assert set(values[:, column]) == set(range(len(attribute.values)))


def test_more_faces_start_with_the_same_ones_and_another_seed_gives_others() -> None:
    assert np.array_equal(avatars.sample_faces(50, 3)[:10], avatars.sample_faces(10, 3))
    assert not np.array_equal(avatars.sample_faces(10, 3), avatars.sample_faces(10, 4))


def test_labels_are_missing_exactly_where_the_attribute_is_invisible(few: ImageDataset) -> None:
    assert few.truth is not None
    labels, truth = few.train.labels, few.truth.values
    hat, bald = truth[:, HAT] == 1, truth[:, HAIR] == 0
    assert hat.any()
    assert (bald & ~hat).any()
    assert torch.equal(labels[:, HAIR_COLOR] == -1, hat | bald)
    assert torch.equal(labels[:, HAIR] == -1, hat)
    assert (labels[:, SKIN_TONE:] >= 0).all()
    seen = labels >= 0
    assert torch.equal(labels[seen], truth[:, :7][seen])
    assert few.truth.names[7:] == ("background", "clothing", "clothing_color", "eyebrows", "nose")


def test_amounts_are_known_within_their_class_alone(few: ImageDataset) -> None:
    assert few.truth is not None
    amounts = {(amount.factor, amount.label): amount for amount in few.truth.amounts}
    assert list(amounts) == [
        ("facial_hair", "beard"),
        ("smiling", "smiling"),
        ("skin_tone", "light"),
        ("skin_tone", "dark"),
    ]
    beard = amounts["facial_hair", "beard"]
    assert beard.name == "size"
    bearded = few.truth.values[:, FACIAL_HAIR] == 2
    assert torch.equal(~beard.values.isnan(), bearded)
    assert set(beard.values[bearded].tolist()) == {0.0, 1.0, 2.0}


@pytest.mark.slow
def test_they_are_drawn_once_and_do_not_depend_on_the_number_of_processes(
    few: ImageDataset, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(few.train.images, Tensor)
    assert few.train.images.shape == (40, 64, 64, 3)
    monkeypatch.setattr(faces, "FEW", 0)  # with a pool of processes
    monkeypatch.setattr(faces, "CHUNK", 7)
    pooled = faces.load_faces(tmp_path, train=40, test=6)
    assert isinstance(pooled.train.images, Tensor)
    assert torch.equal(pooled.train.images, few.train.images)
    monkeypatch.setattr(faces, "_draw_file", None)  # would fail if it were called
    again = faces.load_faces(folder, train=40, test=6)
    assert isinstance(again.test.images, Tensor)
    assert isinstance(few.test.images, Tensor)
    assert torch.equal(again.test.images, few.test.images)


def test_classes_and_unlabelled_attributes_are_visible_where_stated() -> None:
    """Changing an attribute changes pixels if and only if the attribute is visible by the masking rules."""
    names = list(avatars.ATTRIBUTES)
    short = np.zeros(len(names), np.int64)
    short[names.index("hair")] = 1
    bald, hat = short.copy(), short.copy()
    bald[names.index("hair")] = 0
    hat[names.index("hat")] = 1

    def changes(face: np.ndarray, name: str) -> bool:
        other = face.copy()
        other[names.index(name)] = 1 if face[names.index(name)] == 0 else 2
        pair = avatars.draw_faces((np.stack([face, other]), (64, 64)))
        return bool((pair[0] != pair[1]).any())

    for name in [*avatars.LABELLED, *avatars.VISIBLE, "skin_shade", "short_hair", "eyes"]:
        if name != "hat":
            assert changes(short, name), name
    assert not changes(bald, "hair_color")
    assert not changes(hat, "hair_color")
    assert not changes(hat, "hair")
    assert changes(hat, "hat_color")


def test_the_large_size_shows_the_same_faces_memory_mapped(tmp_path: Path, few: ImageDataset) -> None:
    large = faces.load_faces(tmp_path, faces.LARGE, train=3, test=1)
    assert large.info.name == "faces-large"
    assert large.info.image_size == (218, 178, 3)
    assert large.train.images.shape == (3, 218, 178, 3)
    assert torch.equal(large.train.labels, few.train.labels[:3])
    picked = large.train.images[torch.tensor([2, 0])]
    # The background has the same colour in both sizes, in a corner that hair seldom covers.
    assert isinstance(few.train.images, Tensor)
    assert torch.equal(picked[:, 0, 0], few.train.images[torch.tensor([2, 0]), 0, 0])


def test_without_the_packages_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"requires python_avatars and resvg_py.*pip install 'partedvae\[faces\]'"):
        faces.load_faces(tmp_path, train=2, test=1)
