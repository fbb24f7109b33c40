"""`factor_vae`: the Factor score of Kim and Mnih 2018 (section 4) as disentanglement_lib computes it.

The settings are those of Locatello et al. 2019: other votes are scored than the majority was taken from, and dimensions
that hardly vary are pruned first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from partedvae.training.evaluation.metrics.votes import FactorScore, count_votes, least_varying, majority_score

BATCH = 64
"""Images that share one factor's value, for one vote."""
TRAINING_VOTES = 10_000
"""Votes that decide which factor a dimension belongs to."""
EVALUATION_VOTES = 5_000
"""Other votes, which are scored."""
VARIANCE_SAMPLES = 10_000
"""Images, drawn with replacement, that the global variance of each dimension is estimated on."""
PRUNED_STD = 0.05
"""Dimensions with a smaller standard deviation are pruned: the latent's prior has 1."""


class ValueIndex(NamedTuple):
    """The images of each value of each factor, found without a search."""

    order: Int[np.ndarray, "factors images"]
    """Indices of images, sorted by the factor's value."""
    starts: Int[np.ndarray, "factors values"]
    """Where in `order` the images of a value begin."""
    counts: Int[np.ndarray, "factors values"]
    """How many images have a value."""


def value_index(values: Int[np.ndarray, "images factors"]) -> ValueIndex:
    """Return the images of each value: 8 bytes an image and factor."""
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
    """Draw a factor, each as likely, a value of it, as likely as it is among images, and `BATCH` images of that value.

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

    A perfect code has 1, one without relation to the factors about one over their number. A dimension may hold part of
    a factor and a factor may have several dimensions: neither costs anything.

    Args:
        representation: of all images.
        values: true factors of the same images, from 0; each takes two values or more.
        rng: decides which images are drawn.
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

    owners = vote(TRAINING_VOTES).argmax(axis=0)
    evaluation = vote(EVALUATION_VOTES)
    return FactorScore(score=majority_score(owners, evaluation), votes=evaluation, active=active)
