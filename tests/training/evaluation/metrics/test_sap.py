"""SAP of codes with known gaps."""

from __future__ import annotations

import numpy as np
import pytest
from jaxtyping import Float, Int
from sklearn.svm import LinearSVC

from partedvae.training.evaluation.metrics.sampling import draw_split
from partedvae.training.evaluation.metrics.sap import dimension_accuracy, sap
from tests.training.evaluation.metrics.codes import blurred, collapsed, duplicated, grid, perfect, rotated, unrelated

VALUES = grid()
BINARY = grid((2, 2, 2), copies=500)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_perfect_code_of_binary_factors_has_all_that_is_above_chance() -> None:
    result = sap(perfect(BINARY), BINARY, rng())
    assert result.accuracy.diagonal().tolist() == [1.0] * 3
    assert result.gaps == pytest.approx([0.5] * 3, abs=0.05)
    assert result.score == pytest.approx(0.5, abs=0.03)


def test_codes_with_two_equal_dimensions_have_zero() -> None:
    assert sap(duplicated(VALUES), VALUES, rng()).score == 0.0
    assert sap(collapsed(VALUES), VALUES, rng()).score == 0.0


def test_rotated_and_unrelated_codes_are_near_zero() -> None:
    assert 0 <= sap(rotated(VALUES), VALUES, rng()).score < 0.05
    assert 0 <= sap(unrelated(VALUES), VALUES, rng()).score < 0.05


def test_a_single_dimension_is_compared_with_a_constant() -> None:
    result = sap(perfect(BINARY)[:, :1], BINARY, rng())
    assert result.accuracy.shape == (1, 3)
    assert result.gaps == pytest.approx([0.5, 0, 0], abs=0.05)


def slow_sap(code: Float[np.ndarray, "images dims"], values: Int[np.ndarray, "images factors"]) -> float:
    """Transcribe the definition: the accuracy of every dimension for every factor, and the gap of the two best."""
    train, test = draw_split(rng(), len(code))
    gaps: list[float] = []
    for k in range(values.shape[1]):
        accuracies: list[float] = []
        for d in range(code.shape[1]):
            machine = LinearSVC(C=0.01, class_weight="balanced", dual=False)
            machine.fit(code[train][:, d : d + 1].astype(np.float64), values[train, k])
            accuracies.append(machine.score(code[test][:, d : d + 1].astype(np.float64), values[test, k]))
        best = max(accuracies)
        accuracies.remove(best)
        gaps.append(best - max(accuracies))
    return sum(gaps) / len(gaps)


def test_sap_agrees_with_a_slow_transcription() -> None:
    expected = slow_sap(blurred(VALUES), VALUES)
    assert expected > 0.02
    assert sap(blurred(VALUES), VALUES, rng()).score == pytest.approx(expected)


def test_one_value_in_the_sample_is_what_is_predicted() -> None:
    ones = np.ones(6, dtype=np.int64)
    code = np.arange(6.0).reshape(-1, 1)
    assert dimension_accuracy(code, ones, code, np.array([1, 1, 1, 0, 0, 2])) == 0.5


def test_train_and_test_images_are_disjoint_and_at_most_as_many_as_published() -> None:
    train, test = draw_split(rng(), 20_000)
    assert (len(train), len(test)) == (10_000, 5_000)
    assert not set(train.tolist()) & set(test.tolist())
    few_train, few_test = draw_split(rng(), 30)
    assert (len(few_train), len(few_test)) == (20, 10)
