"""Selections of the labelled images: their proportions and errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from partedvae.training.data.dataset import DataError, Split, SplitFiles, Truth
from partedvae.training.data.dsprites import true_values
from partedvae.training.data.labelled import check_way, choose_labelled
from partedvae.training.data.priors import estimated_prior


def split_of(labels: list[list[int]]) -> Split:
    return Split(images=torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8), labels=torch.tensor(labels))


SIX = split_of([[0, 1], [-1, -1], [1, -1], [0, 0], [-1, 1], [1, 1]])


def test_first_takes_the_first_images_with_any_label() -> None:
    assert choose_labelled(SIX, None, 4, "first", 0).tolist() == [0, 2, 3, 4]
    for how in ("first", "random", "stratified", "balanced"):
        assert choose_labelled(SIX, None, 0, how, 0).tolist() == []


def test_random_takes_any_images_that_have_a_label() -> None:
    train = split_of([[0]] * 50 + [[-1]] * 20 + [[1]] * 30)
    chosen = [choose_labelled(train, None, 40, "random", seed) for seed in (0, 0, 1)]
    assert torch.equal(chosen[0], chosen[1])
    assert not torch.equal(chosen[0], chosen[2])
    for indices in chosen:
        assert len(indices.unique()) == 40
        assert not ((indices >= 50) & (indices < 70)).any()
    assert choose_labelled(train, None, 80, "random", 0).tolist() == [*range(50), *range(70, 100)]


@pytest.mark.slow
def test_stratified_takes_the_papers_strata_of_dsprites_equally_often() -> None:
    values = true_values()
    images = torch.zeros(1, 1, 1, 1, dtype=torch.uint8).expand(len(values), 1, 1, 1)
    train = Split(images=images, labels=values[:, :1])
    truth = Truth(images=images, names=("shape", "scale", "orientation", "x", "y"), values=values)
    chosen = choose_labelled(train, truth, 3686, "stratified", 0)
    assert len(chosen.unique()) == 3686
    shape, scale, orientation, x, y = values[chosen].T
    strata = (((shape * 6 + scale) * 2 + (orientation >= 20)) * 2 + (x >= 16)) * 2 + (y >= 16)
    counts = strata.bincount(minlength=144)
    assert (counts.min(), counts.max()) == (25, 26)
    # Within a stratum any image may be chosen.
    assert len(orientation.unique()) == 40
    assert len(x.unique()) == len(y.unique()) == 32
    assert torch.equal(chosen, choose_labelled(train, truth, 3686, "stratified", 0))
    assert not torch.equal(chosen, choose_labelled(train, truth, 3686, "stratified", 1))
    few = choose_labelled(train, truth, 100, "stratified", 0)
    assert set(values[few, 0].bincount().tolist()) <= {33, 34}


def test_stratified_without_truth_keeps_the_proportions_of_the_joint_classes() -> None:
    train = split_of([[0, 0]] * 60 + [[0, 1]] * 20 + [[1, -1]] * 20 + [[-1, -1]] * 50)
    chosen = choose_labelled(train, None, 10, "stratified", 3)
    assert len(chosen.unique()) == 10
    assert [sum(low <= i < high for i in chosen.tolist()) for low, high in ((0, 60), (60, 80), (80, 100))] == [6, 2, 2]


def test_balanced_takes_each_class_of_the_first_factor_equally_often() -> None:
    train = split_of([[0]] * 50 + [[1]] * 5 + [[-1]] * 9 + [[2]] * 6)
    chosen = choose_labelled(train, None, 14, "balanced", 0)
    assert train.labels[chosen, 0].bincount().tolist() == [5, 5, 4]
    assert not torch.equal(chosen, choose_labelled(train, None, 14, "balanced", 1))
    with pytest.raises(DataError, match=r"requires 6 images of class 1 .* which has 5; use at most 16 labels"):
        choose_labelled(train, None, 18, "balanced", 0)


@pytest.mark.parametrize("sizes", [(5, 7, 6), (7, 5, 5), (6, 6, 6), (9, 8, 5), (3, 0, 4)])
def test_the_error_for_too_many_balanced_labels_has_the_largest_possible_number(sizes: tuple[int, ...]) -> None:
    train = split_of([[c] for c, size in enumerate(sizes) for _ in range(size)])
    with pytest.raises(DataError, match=r"use at most \d+ labels") as caught:
        choose_labelled(train, None, sum(sizes) + 3, "balanced", 0)
    most = int(str(caught.value).split()[-2])
    assert len(choose_labelled(train, None, most, "balanced", 0)) == most
    with pytest.raises(DataError, match=f"use at most {most} labels"):
        choose_labelled(train, None, most + 1, "balanced", 0)


def test_the_users_list_keeps_its_order(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("5\n\n0\n 3 \n")
    assert choose_labelled(SIX, None, 3, f"file:{path}", 0).tolist() == [5, 0, 3]


NAMED = Split(
    images=SIX.images,
    labels=SIX.labels,
    files=SplitFiles(names=("a/0.png", "1.png", "2.png", "3", "4.png", "ü 5.png"), held_out=frozenset({"t.png"})),
)


def test_the_users_list_may_mix_file_names_and_indices(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("ü 5.png\n./a/0.png\n./3\n4\n", encoding="utf-8-sig")
    assert choose_labelled(NAMED, None, 4, f"file:{path}", 0).tolist() == [5, 0, 3, 4]
    path.write_text("a/0.png\n")
    assert choose_labelled(NAMED.take(torch.tensor([3, 0, 5])), None, 1, f"file:{path}", 0).tolist() == [1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "a/0.png\n0.png\n",
            "line 2: '0.png' is not a training image; write an index .0 to 5. or a file's path relative",
        ),
        ("2.png\nt.png\n", "line 2: 't.png' is held out for testing; remove it from the list"),
        ("a/0.png\n0\n", "line 2: 0 is in line 1 already; keep one of them"),
        ("1.png\n", "line 1: training image 1.png has no label; remove it from the list"),
        ("6\n", "line 1: '6' is not the index of a training image .0 to 5."),
    ],
)
def test_the_error_for_an_invalid_name_in_a_list_has_its_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(content)
    with pytest.raises(DataError, match=f"mine.txt, {message}"):
        choose_labelled(NAMED, None, 2, f"file:{path}", 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0\nx\n", "line 2: 'x' is not the index of a training image .0 to 5."),
        ("6\n", "line 1: '6' is not the index"),
        ("-1\n", "line 1: '-1' is not the index"),
        ("0\n2\n0\n", "line 3: 0 is in line 1 already"),
        ("1\n", "line 1: training image 1 has no label"),
        ("0\n2\n3\n", "lists 3 images, but --labels is 2; use --labels 3"),
    ],
)
def test_the_error_for_an_invalid_list_has_its_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        choose_labelled(SIX, None, 2, f"file:{path}", 0)
    assert str(path) in str(caught.value)


def test_too_many_labels_an_unknown_selection_and_a_missing_list_are_errors(tmp_path: Path) -> None:
    for how in ("first", "stratified"):
        with pytest.raises(DataError, match="--labels 6 is more than the 5 labelled training images"):
            choose_labelled(SIX, None, 6, how, 0)
    with pytest.raises(ValueError, match=r"called 'stratfied'; did you mean 'stratified'.*file:PATH"):
        check_way("stratfied")
    with pytest.raises(DataError, match=r"the list of labelled images .*none.txt cannot be read"):
        choose_labelled(SIX, None, 6, f"file:{tmp_path}/none.txt", 0)


def test_an_estimated_prior_is_smoothed_and_ignores_missing_labels() -> None:
    assert estimated_prior(torch.tensor([0, 0, 0, -1, 2]), 3) == pytest.approx((4 / 7, 1 / 7, 2 / 7))
    assert estimated_prior(torch.tensor([-1, -1]), 4) == pytest.approx((0.25,) * 4)
