"""Both Factor scores of codes with known scores, compared with slow transcriptions of their definitions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from jaxtyping import Float, Int

from partedvae.training.evaluation.metrics.factor_paper import chunks_of_value, factor_paper
from partedvae.training.evaluation.metrics.factor_vae import BATCH, draw_groups, factor_vae, value_index
from partedvae.training.evaluation.metrics.votes import FactorScore
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
Score = Callable[[np.ndarray, np.ndarray, np.random.Generator], FactorScore]
both = pytest.mark.parametrize("score", [factor_vae, factor_paper])


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@both
def test_a_perfect_code_has_one_and_each_factor_votes_for_its_dimension(score: Score) -> None:
    result = score(perfect(VALUES), VALUES, rng())
    assert result.score == 1.0
    assert np.count_nonzero(result.votes) == 4
    assert (result.votes.diagonal() > 0).all()
    assert result.active.all()


@both
def test_a_duplicated_code_has_one(score: Score) -> None:
    assert score(duplicated(VALUES), VALUES, rng()).score == 1.0


@both
def test_a_code_with_all_factors_alike_in_every_dimension_is_near_one_in_four(score: Score) -> None:
    """For any fixed factor, all dimensions have the same variance, so the vote is random."""
    assert 0.2 <= score(rotated(VALUES), VALUES, rng()).score < 0.4


@both
def test_an_unrelated_code_is_near_one_in_four(score: Score) -> None:
    # factor_paper has 163 votes for 20 cells here, and scores the votes that the majority was fitted on.
    assert 0.2 <= score(unrelated(VALUES), VALUES, rng()).score < (0.3 if score is factor_vae else 0.4)


@both
def test_a_turn_by_less_than_45_degrees_does_not_show(score: Score) -> None:
    """A known limitation of the definition: each dimension still has more of one factor than of the other."""
    values = grid((16, 16), copies=20)
    assert score(turned(values, 30), values, rng()).score == pytest.approx(1.0, abs=0.01)
    assert score(turned(values, 45), values, rng()).score == pytest.approx(0.5, abs=0.08)


@both
def test_a_collapsed_code_has_zero(score: Score) -> None:
    result = score(collapsed(VALUES), VALUES, rng())
    assert result.score == 0.0
    assert not result.votes.any()
    assert not result.active.any()


@both
def test_a_constant_and_a_weak_dimension_get_no_votes(score: Score) -> None:
    code = np.concatenate([collapsed(VALUES)[:, :1], perfect(VALUES), 0.01 * unrelated(VALUES)[:, :1]], axis=1)
    result = score(code, VALUES, rng())
    assert result.score == 1.0
    assert result.active.tolist() == [False, True, True, True, True, False]
    assert not result.votes[:, [0, 5]].any()


@both
def test_a_dimension_may_hold_one_factor_of_two_and_the_other_is_lost(score: Score) -> None:
    """One dimension for two factors gets all votes, and half of them are of its assigned factor."""
    values = grid((16, 16), copies=20)
    assert score(perfect(values)[:, :1], values, rng()).score == pytest.approx(0.5, abs=0.03)


@both
def test_the_score_is_a_function_of_its_seed(score: Score) -> None:
    code = blurred(VALUES)
    first, again, other = (score(code, VALUES, rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.votes, again.votes)
    assert (first.votes != other.votes).any()
    assert first.score == pytest.approx(other.score, abs=0.06)


@both
def test_scale_and_order_of_dimensions_do_not_matter(score: Score) -> None:
    code = blurred(VALUES)[:, :4]
    changed = (4 * code[:, [2, 0, 3, 1]]).astype(np.float32)
    one, two = score(code, VALUES, rng()), score(changed, VALUES, rng())
    np.testing.assert_array_equal(one.votes[:, [2, 0, 3, 1]], two.votes)


def slow_factor_vae(code: Float[np.ndarray, "images dims"], values: Int[np.ndarray, "images factors"]) -> float:
    """Transcribe the definition of Kim and Mnih, with one vote at a time and images found by comparison."""
    random = rng(99)
    count = len(code)
    variance = [np.var(code[random.integers(count, size=10_000), d], ddof=1) for d in range(code.shape[1])]
    dims = [d for d in range(code.shape[1]) if variance[d] ** 0.5 >= 0.05]

    def votes(total: int) -> np.ndarray:
        table = np.zeros((values.shape[1], code.shape[1]))
        for _ in range(total):
            k = random.integers(values.shape[1])
            same = np.flatnonzero(values[:, k] == values[random.integers(count), k])
            batch = code[same[random.integers(len(same), size=64)]].astype(np.float64)
            relative = {d: np.var(batch[:, d], ddof=1) / variance[d] for d in dims}
            table[k, min(relative, key=lambda d: relative[d])] += 1
        return table

    training, evaluation = votes(2_000), votes(2_000)
    right = sum(evaluation[training[:, d].argmax(), d] for d in range(code.shape[1]))
    return float(right / evaluation.sum())


def test_factor_vae_agrees_with_a_slow_transcription() -> None:
    code = blurred(VALUES)
    expected = slow_factor_vae(code, VALUES)
    assert 0.5 < expected < 0.95
    assert factor_vae(code, VALUES, rng()).score == pytest.approx(expected, abs=0.04)


def test_groups_share_the_drawn_factors_value_and_nothing_else() -> None:
    factors, groups = draw_groups(rng(), VALUES, value_index(VALUES), votes=2_000)
    assert groups.shape == (2_000, BATCH)
    shared = (VALUES[groups] == VALUES[groups][:, :1]).all(axis=1)
    np.testing.assert_array_equal(shared, np.arange(4) == factors[:, None])
    assert np.bincount(factors, minlength=4) / 2_000 == pytest.approx([0.25] * 4, abs=0.04)
    # Every image can be drawn: 128,000 draws include all 4,096.
    assert len(np.unique(groups)) == len(VALUES)


def test_values_are_drawn_as_often_as_images_have_them_and_may_have_gaps() -> None:
    values = np.array([[0], [5], [5], [5]]).repeat(50, axis=0)
    _, groups = draw_groups(rng(), values, value_index(values), votes=2_000)
    assert np.mean(values[groups[:, 0], 0] == 5) == pytest.approx(0.75, abs=0.04)


def slow_factor_paper(
    code: Float[np.ndarray, "images dims"], values: Int[np.ndarray, "images factors"]
) -> tuple[float, np.ndarray]:
    """Transcribe the authors' definition, with images in the given order and one chunk at a time."""
    std = code.astype(np.float64).std(axis=0)
    normalised = code / std
    table = np.zeros((values.shape[1], code.shape[1]), dtype=int)
    for k in range(values.shape[1]):
        for value in range(values[:, k].max() + 1):
            same = [i for i in range(len(values)) if values[i, k] == value]
            for start in range(0, len(same) - 99, 100):
                variances = normalised[same[start : start + 100]].var(axis=0)
                table[k, variances.argmin()] += 1
    table[:, std < 0.1] = 0
    return table.max(axis=0).sum() / table.sum(), table


def test_factor_paper_is_the_slow_transcription_on_shuffled_images() -> None:
    code = blurred(VALUES)
    order = rng(3).permutation(len(code))
    score, votes = slow_factor_paper(code[order], VALUES[order])
    result = factor_paper(code, VALUES, rng(3))
    assert 0.5 < score < 0.95
    assert result.score == score
    np.testing.assert_array_equal(result.votes, votes)


def test_factor_paper_does_not_depend_on_the_order_of_the_images() -> None:
    """In grid order, chunks of a late factor share the earlier ones too, and a perfect code would score below one."""
    values = grid((2, 4, 8, 16), copies=1)
    ordered, _ = slow_factor_paper(perfect(values), values)
    assert ordered < 0.9
    assert factor_paper(perfect(values), values, rng()).score == 1.0


def test_chunks_are_disjoint_share_their_value_and_leave_out_the_rest() -> None:
    column = np.array([0] * 250 + [1] * 99 + [3] * 100)
    chunks = chunks_of_value(column, rng().permutation(len(column)))
    assert sorted(column[chunks].max(axis=1)) == sorted(column[chunks].min(axis=1)) == [0, 0, 3]
    assert len(np.unique(chunks)) == 300


def test_factor_paper_needs_a_hundred_images_of_a_value() -> None:
    values = grid((2, 2), copies=20)
    with pytest.raises(ValueError, match="no factor has a value with 100 images among 80; the paper's Factor score"):
        factor_paper(perfect(values), values, rng())


def test_the_papers_score_is_lenient_with_nearly_constant_dimensions() -> None:
    """Two live dimensions for x and y, faint traces of shape and scale, no orientation: 0.88 against 0.40.

    `factor_paper` drops the votes for dimensions below its threshold; in `factor_vae` the live ones get them.
    """
    random = np.random.default_rng(0)
    values = np.stack([random.integers(size, size=40_000) for size in (3, 6, 40, 32, 32)], axis=1)
    shape, scale, _, x, y = perfect(values).T
    traces = 0.02 * np.stack([shape, scale], axis=1) + 0.005 * random.normal(size=(len(values), 2))
    code = np.concatenate([np.stack([x, y], axis=1), traces, 0.02 * random.normal(size=(len(values), 2))], axis=1)
    code = code.astype(np.float32)
    assert factor_paper(code, values, rng()).score == pytest.approx(0.88, abs=0.02)
    assert factor_vae(code, values, rng()).score == pytest.approx(0.40, abs=0.02)
