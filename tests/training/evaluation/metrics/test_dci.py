"""DCI of importances and of codes with known scores."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingClassifier

from partedvae.training.evaluation.metrics.dci import Predictor, completeness, concentration, dci, disentanglement
from partedvae.training.evaluation.metrics.sampling import draw_split
from tests.training.evaluation.metrics.codes import collapsed, duplicated, grid, perfect, rotated, turned, unrelated

VALUES = grid(copies=2)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_concentration_is_one_minus_the_normalised_entropy() -> None:
    rows = np.array([[3.0, 0.0, 0.0], [1.0, 1.0, 1.0], [2.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    assert concentration(rows) == pytest.approx([1.0, 0.0, 1 - log(2) / log(3), 0.0])


def test_dimensions_are_weighted_by_importance_and_factors_equally() -> None:
    importance = np.array([[0.9, 0.0], [0.05, 0.05], [0.05, 0.95]])
    p = 0.05
    mixed = 1 + (p * log(p) + (1 - p) * log(1 - p)) / log(2)
    assert disentanglement(importance) == pytest.approx((0.9 * 1 + 0.1 * 0 + 1.0 * mixed) / 2)
    first = 1 + (0.9 * log(0.9) + 2 * p * log(p)) / log(3)
    second = 1 + (0.95 * log(0.95) + p * log(p)) / log(3)
    assert completeness(importance) == pytest.approx((first + second) / 2)


def test_a_perfect_code_has_one_in_all_three() -> None:
    result = dci(perfect(VALUES), VALUES, rng())
    assert result[:3] == pytest.approx((1.0, 1.0, 1.0), abs=1e-6)
    np.testing.assert_allclose(result.importance, np.eye(4), atol=1e-6)


def test_a_duplicated_code_is_disentangled_and_informative_but_half_as_complete() -> None:
    """Two of eight dimensions are equally important, which is an entropy of log 2 of at most log 8."""
    result = dci(duplicated(VALUES), VALUES, rng())
    assert result.disentanglement == pytest.approx(1.0, abs=1e-6)
    assert result.informativeness == 1.0
    assert result.completeness == pytest.approx(1 - log(2) / log(8), abs=0.08)


def test_a_rotated_code_is_informative_but_neither_disentangled_nor_complete() -> None:
    result = dci(rotated(VALUES), VALUES, rng())
    assert result.disentanglement < 0.2
    assert result.completeness < 0.2
    assert result.informativeness > 0.6


def test_an_unrelated_code_has_neither_structure_nor_more_than_chance() -> None:
    result = dci(unrelated(VALUES), VALUES, rng())
    assert result.disentanglement < 0.05
    assert result.completeness < 0.05
    chance = float(np.mean([1 / 2, 1 / 4, 1 / 8, 1 / 16]))
    assert result.informativeness == pytest.approx(chance, abs=0.05)


def test_a_collapsed_code_has_zero_and_chance() -> None:
    result = dci(collapsed(VALUES), VALUES, rng())
    assert (result.disentanglement, result.completeness) == (0.0, 0.0)
    assert result.informativeness == pytest.approx(0.234, abs=0.05)
    assert not result.importance.any()


def test_a_single_dimension_and_a_single_factor_have_one_in_all_three() -> None:
    result = dci(perfect(VALUES)[:, 1:2], VALUES[:, 1:2], rng())
    assert result[:3] == (1.0, 1.0, 1.0)


def test_the_scores_are_a_function_of_their_seed() -> None:
    first, again = (dci(rotated(VALUES), VALUES, rng()) for _ in range(2))
    assert first[:3] == again[:3]


def test_gradient_boosting_gives_the_importances_of_disentanglement_lib() -> None:
    """A code of two factors, turned by 30 degrees: the importances are those of scikit-learn's default classifier."""
    values = grid((2, 3), copies=40)
    code = turned(values, 30)
    result = dci(code, values, rng(), "boosting")
    generator = rng()
    train, _ = draw_split(generator, len(code))
    for k, factor in enumerate(values.T):
        reference = GradientBoostingClassifier(random_state=int(generator.integers(2**31)))
        reference.fit(code[train], factor[train])
        np.testing.assert_allclose(result.importance[:, k], reference.feature_importances_)
    assert result.predictor == "boosting"
    assert result.informativeness == 1.0


@pytest.mark.parametrize("predictor", ["forest", "boosting"])
def test_both_predictors_find_a_perfect_code(predictor: Predictor) -> None:
    values = grid((2, 3), copies=40)
    result = dci(perfect(values), values, rng(), predictor)
    assert result[:3] == pytest.approx((1.0, 1.0, 1.0), abs=1e-6)


@pytest.mark.slow
def test_forests_find_a_noisy_code_less_disentangled_than_boosting_does() -> None:
    """Deep trees also fit the noise, with every dimension: scores of one cannot be compared with those of the other."""
    values = grid((3, 4, 5), copies=20)
    code = perfect(values) + 0.5 * np.random.default_rng(3).normal(size=(len(values), 3)).astype(np.float32)
    forest, boosting = (dci(code, values, rng(), predictor) for predictor in ("forest", "boosting"))
    assert boosting.disentanglement > forest.disentanglement + 0.05
