"""`factor_vae`: the Factor score of Kim and Mnih 2018 (section 4) as disentanglement_lib computes it.

The settings are those of Locatello et al. 2019: the majority vote is scored on separate votes, and dimensions of small
variance are pruned first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from partedvae.training.evaluation.metrics.votes import FactorScore, count_votes, least_varying, majority_score

BATCH = 64
"""Images per vote; they share the value of one factor."""
TRAINING_VOTES = 10_000
"""Votes that assign dimensions to factors."""
EVALUATION_VOTES = 5_000
"""Separate votes that are scored."""
VARIANCE_SAMPLES = 10_000
"""Images, drawn with replacement, for the estimate of the global variance of each dimension."""
PRUNED_STD = 0.05
"""Dimensions with a smaller standard deviation are pruned; that of the prior is 1."""


class ValueIndex(NamedTuple):
    """Index of the images by factor and value."""

    order: Int[np.ndarray, "factors images"]
    """Indices of images, sorted by the factor's value."""
    starts: Int[np.ndarray, "factors values"]
    """Position in `order` of the first image of a value."""
    counts: Int[np.ndarray, "factors values"]
    """Number of images of a value."""


def value_index(values: Int[np.ndarray, "images factors"]) -> ValueIndex:
    """Return the index of images by value; it takes 8 bytes per image and factor."""
    largest = int(values.max()) + 1
    counts = np.stack([np.bincount(column, minlength=largest) for column in values.T])
    return ValueIndex(
        order=np.stack([np.argsort(column, kind="stable") for column in values.T]),
        starts=np.cumsum(counts, axis=1) - counts,
        counts=counts,
    )


def draw_groups(
    rng: np.random.Generator, values: Int[np.ndarray, "images factors"], index: ValueIndex, votes: int
) -> tuple[Int[np.ndarray, " votes"], Int[np.ndarray, "votes batch"]]:
    """Draw a factor uniformly, a value of it by its frequency, and `BATCH` images of that value, for each vote.

    Args:
        rng: random numbers.
        values: true factors of all images.
        index: `value_index(values)`.
        votes: number of votes.

    Returns:
        Index of the factor of each vote, and indices of its images, drawn with replacement.
    """
    images, factors = values.shape
    chosen = rng.integers(factors, size=votes)
    value = values[rng.integers(images, size=votes), chosen]
    count = index.counts[chosen, value]
    offsets = rng.integers(count[:, None], size=(votes, BATCH))
    return chosen, index.order[chosen[:, None], index.starts[chosen, value][:, None] + offsets]


def factor_vae(
    representation: Float[np.ndarray, "images dims"],
    values: Int[np.ndarray, "images factors"],
    rng: np.random.Generator,
) -> FactorScore:
    """Return the Factor score; `votes` of the result are the evaluation votes.

    A perfect code scores 1, a random one about one over the number of factors. The score does not penalise a dimension
    that encodes part of a factor, or a factor that is encoded in several dimensions.

    Args:
        representation: of all images.
        values: true factors of the same images, counted from 0; each has at least two values.
        rng: draws the images.
    """
    images, dims = representation.shape
    sample = representation[rng.integers(images, size=VARIANCE_SAMPLES)].astype(np.float64)
    variance = sample.var(axis=0, ddof=1)
    active = np.sqrt(variance) >= PRUNED_STD
    shape = (values.shape[1], dims)
    if not active.any():
        return FactorScore(score=0.0, votes=np.zeros(shape, dtype=np.int64), active=active)
    scale = np.where(active, variance, 0.0)
    index = value_index(values)

    def vote(total: int) -> Int[np.ndarray, "factors dims"]:
        factors, groups = draw_groups(rng, values, index, total)
        return count_votes(factors, least_varying(representation, groups, scale, ddof=1), shape)

    assigned = vote(TRAINING_VOTES).argmax(axis=0)
    evaluation = vote(EVALUATION_VOTES)
    return FactorScore(score=majority_score(assigned, evaluation), votes=evaluation, active=active)
