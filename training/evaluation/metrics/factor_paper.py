"""`factor_paper`: the Factor score as the authors of PartedVAE computed it for their Tables 1 and 2.

It differs from `factor_vae` in three ways: every image is used once per factor, the majority vote is scored on the
votes that it was fitted on (chance is slightly above one over the number of factors), and votes for dimensions below
the threshold are dropped instead of cast for another dimension. It is therefore lenient: a code of dSprites with two
live dimensions, for x and y, and faint traces of two other factors has 0.88, where `factor_vae` has 0.40.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from partedvae.training.evaluation.metrics.votes import FactorScore, count_votes, least_varying, majority_score

CHUNK = 100
"""Images per vote; they share the value of one factor."""
DROPPED_STD = 0.1
"""Votes for dimensions with a smaller standard deviation are dropped."""


def chunks_of_value(
    column: Int[np.ndarray, " images"], order: Int[np.ndarray, " images"]
) -> Int[np.ndarray, "chunks chunk"]:
    """Return disjoint chunks of `CHUNK` images that share a value of one factor; remainders are not used.

    Args:
        column: value of the factor for each image.
        order: indices of all images, in the order in which they fill the chunks.
    """
    by_value = order[np.argsort(column[order], kind="stable")]
    counts = np.bincount(column)
    rank = np.arange(len(column)) - np.repeat(np.cumsum(counts) - counts, counts)
    used = rank < np.repeat(counts - counts % CHUNK, counts)
    return by_value[used].reshape(-1, CHUNK)


def factor_paper(
    representation: Float[np.ndarray, "images dims"],
    values: Int[np.ndarray, "images factors"],
    rng: np.random.Generator,
) -> FactorScore:
    """Return the authors' Factor score.

    A dimension below the threshold takes part in the vote and the votes for it are dropped, as in the authors' code. A
    constant dimension takes no part, because it has no relative variance.

    Args:
        representation: means of z and u of all images (`Representation.joined`).
        values: true factors of the same images, counted from 0; each has at least two values.
        rng: shuffles the images. In the order of a factor grid, the images of a chunk would share other factors as
            well, whose dimensions would win the vote.

    Raises:
        ValueError: no factor has a value with `CHUNK` images.
    """
    dims = representation.shape[1]
    shape = (values.shape[1], dims)
    order = rng.permutation(len(representation))
    # One dimension at a time, so that the float64 copies for exact variances stay small.
    variance = np.array([representation[:, dim].astype(np.float64).var() for dim in range(dims)])
    varies = representation.max(axis=0) > representation.min(axis=0)
    active = varies & (np.sqrt(variance) >= DROPPED_STD)
    votes = np.zeros(shape, dtype=np.int64)
    for factor in range(values.shape[1]):
        chunks = chunks_of_value(values[:, factor], order)
        chosen = least_varying(representation, chunks, np.where(varies, variance, 0.0), ddof=0)
        votes += count_votes(np.full(len(chunks), factor), chosen, shape)
    if not votes.any():
        raise ValueError(
            f"no factor has a value with {CHUNK} images among {len(values)}; the paper's Factor score needs more images"
        )
    votes[:, ~active] = 0
    return FactorScore(score=majority_score(votes.argmax(axis=0), votes), votes=votes, active=active)
