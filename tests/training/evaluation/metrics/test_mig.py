"""MIG of codes with known gaps."""

from __future__ import annotations

from collections import Counter
from math import log

import numpy as np
import pytest
from jaxtyping import Float, Int

from partedvae.training.evaluation.metrics.mig import binned, mig, mutual_information
from tests.training.evaluation.metrics.codes import (
    blurred,
    collapsed,
    duplicated,
    grid,
    perfect,
    rotated,
    turned,
    unrelated,
)

VALUES = grid()


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_perfect_code_has_one() -> None:
    result = mig(perfect(VALUES), VALUES, rng())
    assert result.gaps == pytest.approx([1.0] * 4)
    assert result.score == pytest.approx(1.0)
    assert result.information.diagonal() == pytest.approx([log(2), log(4), log(8), log(16)])


def test_forty_values_in_twenty_bins_have_the_information_of_the_bins() -> None:
    values = grid((40, 3), copies=10)
    assert mig(perfect(values), values, rng()).gaps == pytest.approx([log(20) / log(40), 1.0])


def test_a_duplicated_code_has_zero() -> None:
    assert mig(duplicated(VALUES), VALUES, rng()).score == pytest.approx(0.0)


def test_a_collapsed_code_has_zero() -> None:
    result = mig(collapsed(VALUES), VALUES, rng())
    assert result.score == 0.0
    assert result.information.tolist() == [[0.0] * 4] * 4


def test_rotated_and_unrelated_codes_are_near_zero() -> None:
    assert 0 <= mig(rotated(VALUES), VALUES, rng()).score < 0.1
    assert 0 <= mig(unrelated(VALUES), VALUES, rng()).score < 0.02


def test_the_gap_falls_as_the_code_turns() -> None:
    values = grid((16, 16), copies=20)
    scores = [mig(turned(values, degrees), values, rng()).score for degrees in (0, 15, 30, 45)]
    assert scores[0] == pytest.approx(1.0)
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] < 0.05


def test_a_single_dimension_has_all_of_its_information_as_gap() -> None:
    result = mig(perfect(VALUES)[:, 1:2], VALUES, rng())
    assert result.gaps == pytest.approx([0, 1, 0, 0])
    assert result.information.shape == (1, 4)


def slow_mig(code: Float[np.ndarray, "images dims"], values: Int[np.ndarray, "images factors"]) -> float:
    """Transcribe Eq. 6 with relative frequencies and the histogram bins of NumPy."""
    count = len(code)
    gaps = []
    for factor in values.T.tolist():
        informations = []
        for column in code.T.astype(np.float64):
            bins = np.digitize(column, np.histogram(column, 20)[1][:-1]).tolist()
            joint, left, right = Counter(zip(bins, factor, strict=True)), Counter(bins), Counter(factor)
            informations.append(sum(n / count * log(n * count / (left[b] * right[v])) for (b, v), n in joint.items()))
        first, second = sorted(informations, reverse=True)[:2]
        gaps.append((first - second) / -sum(n / count * log(n / count) for n in Counter(factor).values()))
    return sum(gaps) / len(gaps)


def test_mig_agrees_with_a_slow_transcription() -> None:
    code = blurred(VALUES)
    expected = slow_mig(code, VALUES)
    assert 0.05 < expected < 0.7
    assert mig(code, VALUES, rng()).score == pytest.approx(expected, rel=1e-9)


def test_bins_have_equal_widths_and_the_last_holds_the_largest_value() -> None:
    assert binned(np.array([0.0, 0.049, 0.051, 0.5001, 0.96, 1.0])).tolist() == [0, 0, 1, 10, 19, 19]


def test_information_is_symmetric_and_zero_for_independent_values() -> None:
    one, two = grid((3, 5), copies=7).T
    assert mutual_information(one, two) == pytest.approx(0.0, abs=1e-12)
    both = one * 5 + two
    assert mutual_information(both, two) == pytest.approx(log(5))
    assert mutual_information(two, both) == pytest.approx(log(5))


def test_a_factor_that_the_sample_shows_constant_has_no_gap() -> None:
    values = np.stack([np.arange(400) % 2, np.zeros(400, dtype=np.int64)], axis=1)
    assert mig(unrelated(values), values, rng()).gaps[1] == 0.0
