"""Intervals of accuracies, against published values."""

from __future__ import annotations

import pytest

from partedvae.training.evaluation.intervals import format_accuracy, wilson_interval


@pytest.mark.parametrize(
    ("correct", "total", "interval"),
    # Newcombe 1998, Table I, method 3 (the score interval without continuity correction).
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_the_wilson_interval_has_the_values_of_newcombe(
    correct: int, total: int, interval: tuple[float, float]
) -> None:
    assert wilson_interval(correct, total) == pytest.approx(interval, abs=1e-4)


def test_an_accuracy_of_few_images_is_a_count_with_an_interval() -> None:
    assert format_accuracy(5, 8) == "5 of 8 (62.50%, 95% interval 31% to 86%)"
    assert format_accuracy(199, 199) == "199 of 199 (100.00%, 95% interval 98% to 100%)"
    assert format_accuracy(199, 200) == "99.50%"
