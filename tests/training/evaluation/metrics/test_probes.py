"""Probes of latents that contain the class linearly, nonlinearly, or not at all."""

from __future__ import annotations

import numpy as np
import pytest

from partedvae.training.evaluation.metrics import probes
from partedvae.training.evaluation.metrics.probes import ROWS, Division, Probe, Separation, separation
from partedvae.training.evaluation.metrics.representation import Latents

pytestmark = pytest.mark.slow

COUNT = 3_000
UPDATES = 500
"""An eighth of the probes', which is enough for what these latents contain."""


@pytest.fixture(autouse=True)
def _few_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "UPDATES", UPDATES)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def normal(*shape: int) -> np.ndarray:
    return rng(1).normal(size=shape).astype(np.float32)


def probed(
    u: np.ndarray, z: np.ndarray, labels: np.ndarray, names: tuple[str, ...], seed: int = 0, tests: int | None = None
) -> tuple[Separation, ...]:
    """Return the probes of latents whose samples are the means, each fitted once."""
    fit, fitted = probes._mean_probe, dict[tuple[object, ...], Probe]()

    def fit_once(latent: np.ndarray, labels: np.ndarray, divisions: list[Division], seed: int) -> Probe:
        key = (id(latent), labels.tobytes(), *(rows.tobytes() for division in divisions for rows in division))
        if key not in fitted:
            fitted[key] = fit(latent, labels, divisions, seed)
        return fitted[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probes, "_mean_probe", fit_once)
        return separation(Latents(u, z), Latents(u, z), labels, names, seed, tests)


LABELS = rng(2).integers(4, size=(COUNT, 1))
CORNERS = 6 * np.eye(4, dtype=np.float32)[LABELS[:, 0]]


def test_a_u_with_the_class_is_predictive_and_a_z_without_it_is_at_chance() -> None:
    (result,) = probed(CORNERS + normal(COUNT, 4), normal(COUNT, 3), LABELS, ("corner",))
    assert result.factor == "corner"
    assert result.rows == COUNT
    assert result.chance == pytest.approx(0.25, abs=0.04)
    assert min(result.u) > 0.98
    assert max(result.z) < 0.32


def test_nonlinear_structure_is_found_only_by_the_network() -> None:
    """Class 1 surrounds class 0, so that no line separates them."""
    labels = rng(2).integers(2, size=(COUNT, 1))
    radius = 0.5 + 2 * labels
    angle = rng(3).uniform(0, 2 * np.pi, size=(COUNT, 1))
    ring = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(np.float32)
    (result,) = probed(ring, ring, labels, ("ring",))
    assert result.z.linear < 0.65
    assert result.z.mlp > 0.98


def test_a_collapsed_latent_is_at_chance() -> None:
    (result,) = probed(CORNERS, np.full((COUNT, 3), 0.3, dtype=np.float32), LABELS, ("corner",))
    assert result.z == pytest.approx((result.chance, result.chance), abs=0.05)


def test_images_without_a_label_are_not_used() -> None:
    """Half of the images have no label and misleading features."""
    labels, u_mean = LABELS.copy(), CORNERS.copy()
    labels[::2] = -1
    u_mean[::2] = CORNERS[::2][:, ::-1]
    (result,) = probed(u_mean, normal(COUNT, 3), labels, ("corner",))
    assert result.rows == COUNT // 2
    assert result.u.linear == 1.0


def test_each_factor_has_its_own_labels_and_those_with_fewer_than_two_classes_are_left_out() -> None:
    labels = np.stack([LABELS[:, 0], np.full(COUNT, -1), np.full(COUNT, 2), LABELS[:, 0] // 2], axis=1)
    results = probed(CORNERS, normal(COUNT, 3), labels, ("corner", "nobody", "always", "half"))
    assert [result.factor for result in results] == ["corner", "half"]
    assert results[1].u.linear == 1.0
    assert results[1].chance == pytest.approx(0.5, abs=0.05)


def test_chance_is_that_of_the_most_frequent_class() -> None:
    labels = (rng(2).random((COUNT, 1)) < 0.1).astype(np.int64)
    (result,) = probed(normal(COUNT, 2), normal(COUNT, 2), labels, ("hat",))
    assert result.chance == pytest.approx(0.9, abs=0.03)
    assert result.z == pytest.approx((result.chance, result.chance), abs=0.02)


def test_a_model_without_u_is_probed_for_the_class_in_z() -> None:
    """As for the unsupervised baselines."""
    (result,) = probed(np.zeros((COUNT, 0), dtype=np.float32), CORNERS, LABELS, ("corner",))
    assert result.z.linear == 1.0
    assert result.u == (result.chance, result.chance)


def test_samples_are_probed_apart_from_means() -> None:
    """Z's means differ slightly between classes, by far less than its samples scatter."""
    z = 0.01 * CORNERS
    samples = Latents(CORNERS + normal(COUNT, 4), z + normal(COUNT, 4))
    (result,) = separation(Latents(CORNERS, z), samples, LABELS, ("corner",), 0)
    assert result.z == (1.0, 1.0)
    assert max(result.z_samples) < 0.32
    assert min(result.u_samples) > 0.98
    assert result.folds == 0


def test_few_test_images_are_completed_with_training_images_and_cross_validated() -> None:
    """Every one of 40 images is predicted once, by probes that were fitted without it."""
    labels = np.arange(60).reshape(-1, 1) % 4
    labels[40:] = -1  # not labelled
    corners = 6 * np.eye(4, dtype=np.float32)[np.arange(60) % 4]
    (result,) = probed(corners + normal(60, 4), normal(60, 3), labels, ("corner",), tests=8)
    assert (result.rows, result.train_images, result.folds) == (40, 32, 5)
    assert result.chance == pytest.approx(0.25)
    assert min(result.u) > 0.95
    assert max(result.z) < 0.5


def test_with_enough_test_images_no_training_image_is_used() -> None:
    (result,) = probed(CORNERS, normal(COUNT, 3), LABELS, ("corner",), tests=200)
    assert (result.rows, result.train_images, result.folds) == (200, 0, 0)


def test_a_class_with_one_image_is_left_out_of_the_cross_validation() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1, 2]).reshape(-1, 1)
    (result,) = probed(normal(7, 2), normal(7, 2), labels, ("corner",))
    assert (result.rows, result.folds) == (6, 3)
    assert probed(normal(7, 2), normal(7, 2), np.minimum(labels, 1) * labels // 2, ("corner",)) == ()


@pytest.mark.exhaustive
def test_a_class_that_the_training_rows_lack_cannot_be_probed() -> None:
    """The only image of the second class of 260 is tested, or the probe would have one class to learn."""
    labels = np.zeros((260, 1), dtype=np.int64)
    found = 0
    for row in range(0, 260, 20):
        labels[:] = 0
        labels[row] = 1
        found += len(probed(normal(260, 2), normal(260, 2), labels, ("defect",)))
    assert 0 < found < 13


def test_at_most_ten_thousand_images_are_used_and_the_seed_decides_which() -> None:
    labels = rng(2).integers(2, size=(ROWS + 2_000, 1))
    weak = (0.5 * labels + rng(3).normal(size=labels.shape)).astype(np.float32)
    first, again, other = (probed(weak, weak, labels, ("class",), seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert first[0].rows == ROWS
