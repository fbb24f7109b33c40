"""The order in which the strategies suggest images, of points whose groups are known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from partedvae.common.spectral import embedded
from partedvae.results import FloatArray
from partedvae.serving.suggest.strategies import Strategy, choose_strategy, rank

SIZES = (60, 50, 40, 30)
GROUPS = np.repeat(np.arange(4), SIZES)
NONE = np.empty(0, dtype=np.int64)


def groups(spread: float = 0.1) -> FloatArray:
    """Return points around the corners of a square, in groups of `SIZES` [180, 2]."""
    corners = np.array([[0, 0], [0, 8], [8, 0], [8, 8]], dtype=np.float32)
    noise = np.random.default_rng(0).normal(scale=spread, size=(len(GROUPS), 2))
    return (corners[GROUPS] + noise).astype(np.float32)


@pytest.mark.parametrize("strategy", ["typical", "coverage"])
def test_the_first_images_are_of_different_groups_the_largest_first(strategy: Strategy) -> None:
    chosen = rank(groups(), NONE, 4, strategy)
    assert GROUPS[chosen].tolist() == [0, 1, 2, 3]
    assert len(set(rank(groups(), NONE, 60, strategy).tolist())) == 60


@pytest.mark.parametrize("strategy", ["typical", "coverage"])
def test_groups_with_a_label_come_last(strategy: Strategy) -> None:
    labelled = np.array([7], dtype=np.int64)
    chosen = rank(groups(), labelled, 3, strategy)
    assert GROUPS[chosen].tolist() == [1, 2, 3]
    everything = rank(groups(), labelled, 500, strategy)
    assert sorted(everything.tolist()) == sorted(set(range(len(GROUPS))) - {7})


def test_groups_may_have_any_shape() -> None:
    """Long groups side by side, which k-means would cut across."""
    random = np.random.default_rng(2)
    lines = np.repeat(np.arange(3), 200)
    points = np.stack([random.uniform(0, 40, 600), 3 * lines + random.normal(scale=0.2, size=600)], axis=1)
    chosen = rank(points.astype(np.float32), NONE, 3, "typical")
    assert sorted(lines[chosen].tolist()) == [0, 1, 2]


@pytest.mark.parametrize(("groups_wanted", "dimensions"), [(4, 10), (10, 16), (26, 32), (100, 32)])
def test_the_embedding_has_some_dimensions_more_than_groups(groups_wanted: int, dimensions: int) -> None:
    """With one per group, images of two digits of MNIST were in one group: parts of a digit have dimensions, too."""
    points = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
    assert embedded(points, groups_wanted).shape == (300, dimensions)


def corners_of_a_square(sizes: tuple[int, ...], spread: float) -> tuple[FloatArray, NDArray[np.int64]]:
    """Return points around the corners of a square [images, 2], with their corners [images]."""
    corners = np.repeat(np.arange(4), sizes)
    points = np.array([[0, 0], [0, 8], [8, 0], [8, 8]])[corners]
    noise = np.random.default_rng(5).normal(scale=spread, size=points.shape)
    return (points + noise).astype(np.float32), corners


@pytest.mark.parametrize("spread", [0.3, 1.0, 1.5])
@pytest.mark.parametrize("sizes", [(120, 90, 300, 200), (700, 400, 650, 200)])
def test_groups_without_a_path_between_them_are_found(sizes: tuple[int, ...], spread: float) -> None:
    """Their graphs have one eigenvalue in common, of whose eigenvectors an iteration finds some."""
    points, corners = corners_of_a_square(sizes, spread)
    assert sorted(corners[rank(points, NONE, 4, "typical")].tolist()) == [0, 1, 2, 3]


def test_images_that_are_there_many_times_are_compared_once() -> None:
    """Equal images, the nearest neighbours of each other, are not a group of their own."""
    points, corners = corners_of_a_square((80, 80, 80, 80), 0.3)
    times = np.random.default_rng(6).integers(1, 40, size=320)
    order = np.random.default_rng(7).permutation(times.sum())
    points, corners = np.repeat(points, times, axis=0)[order], np.repeat(corners, times)[order]
    assert sorted(corners[rank(points, NONE, 4, "typical")].tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("count", [2, 10])
def test_of_two_different_images_each_is_suggested(count: int) -> None:
    points = np.concatenate([np.zeros((150, 3)), np.ones((150, 3))]).astype(np.float32)
    assert sorted((rank(points, NONE, count, "typical")[:2] >= 150).tolist()) == [False, True]


def test_of_more_groups_than_dimensions_the_largest_are_found() -> None:
    """The smallest ones, for which no dimension is left, are one group, here the largest."""
    sizes = (80, 60, *[20] * 40)
    points = np.random.default_rng(8).normal(scale=0.01, size=(sum(sizes), 2)).astype(np.float32)
    points[:, 0] += np.repeat(np.arange(len(sizes)), sizes)
    chosen = rank(points, NONE, 4, "typical")
    assert np.repeat(np.arange(len(sizes)), sizes)[chosen[1:3]].tolist() == [0, 1]


def test_a_typical_image_is_in_the_middle_of_its_group() -> None:
    points = groups(spread=1.0)
    chosen = rank(points, NONE, 4, "typical")
    for index in chosen:
        own = points[GROUPS[index] == GROUPS]
        distances = np.linalg.norm(own - own.mean(axis=0), axis=1)
        assert np.linalg.norm(points[index] - own.mean(axis=0)) < np.median(distances)


def test_the_order_depends_on_the_seed_alone() -> None:
    points = np.random.default_rng(1).normal(size=(300, 4)).astype(np.float32)
    for strategy in ("typical", "coverage"):
        assert rank(points, NONE, 20, strategy, seed=3).tolist() == rank(points, NONE, 20, strategy, seed=3).tolist()


def test_margin_ranks_by_the_difference_of_the_two_largest_probabilities() -> None:
    probs = np.array([[0.9, 0.1, 0], [0.5, 0.3, 0.2], [0.4, 0.3, 0.3], [0.34, 0.33, 0.33]], dtype=np.float32)
    features = np.zeros((4, 2), dtype=np.float32)
    assert rank(features, NONE, 9, "margin", probs).tolist() == [3, 2, 1, 0]
    assert rank(features, np.array([3]), 2, "margin", probs).tolist() == [2, 1]
    with pytest.raises(ValueError, match="margin needs the probabilities"):
        rank(features, NONE, 1, "margin")


def test_auto_is_margin_from_ten_labels_per_class() -> None:
    probs = np.full((8, 3), 1 / 3, dtype=np.float32)
    assert choose_strategy("auto", 29, probs) == "typical"
    assert choose_strategy("auto", 30, probs) == "margin"
    assert choose_strategy("auto", 1000, None) == "typical"
    assert choose_strategy("coverage", 1000, probs) == "coverage"
