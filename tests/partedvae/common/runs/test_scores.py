"""Which values of a score are the best, and how they are written."""

from __future__ import annotations

import math

import pytest

from partedvae.common.runs.scores import is_of_one_class, metric_kind, score_kind


@pytest.mark.parametrize(
    ("name", "values", "best"),
    [
        ("accuracy/digit", (0.9, 0.95, 0.8), (False, True, False)),
        ("probe_z_mlp/digit", (0.3, 0.15, 0.2), (False, True, False)),
        ("diversity/digit", (0.6, 1.1, 1.5), (False, True, False)),
        ("generation/digit", (0.9, None, math.nan, 0.9, 0.8), (True, False, False, True, False)),
        ("mig", (0.4, 0.4), (False, False)),  # Nothing to choose between.
        ("mig", (None, 0.4), (False, False)),
        ("probe_chance/digit", (0.1, 0.2), (False, False)),
        ("unknown", (0.1, 0.2), (False, False)),
    ],
)
def test_the_best_of_a_score(name: str, values: tuple[float | None, ...], best: tuple[bool, ...]) -> None:
    assert score_kind(name).best(values) == best


def test_the_best_of_a_metric() -> None:
    """A lower loss is not a better model: its weights may differ."""
    assert metric_kind("test/accuracy/digit").best((0.5, 0.7)) == (False, True)
    assert metric_kind("test/reconstruction").best((5.0, 7.0)) == (True, False)
    assert metric_kind("loss").best((5.0, 7.0)) == (False, False)
    assert metric_kind("reconstruction").best((5.0, 7.0)) == (False, False)


def test_what_cannot_be_compared_has_no_best() -> None:
    assert score_kind("accuracy/digit", {"dataset"}).best((0.5, 0.7)) == (False, False)
    assert score_kind("accuracy/digit", {"objective.reconstruction"}).best((0.5, 0.7)) == (False, True)
    assert metric_kind("test/reconstruction", {"objective.reconstruction"}).best((5.0, 7.0)) == (False, False)
    assert metric_kind("test/accuracy/digit", {"dataset"}).best((0.5, 0.7)) == (False, False)


def test_values_as_text() -> None:
    assert score_kind("accuracy/digit").text(0.98765) == "98.77%"
    assert score_kind("diversity/digit").text(0.769596) == "0.7696"
    assert metric_kind("test/accuracy/digit", {"dataset"}).text(0.5) == "50.00%"
    assert metric_kind("loss").text(math.nan) == "nan"
    assert score_kind("mig").text(None) == "–"


def test_scores_of_one_class() -> None:
    assert is_of_one_class("generation/digit/7")
    assert not is_of_one_class("generation/digit")
    assert not is_of_one_class("amount_u/beard/long")
