"""`factor_paper`: the Factor score as the authors of PartedVAE computed it for their Tables 1 and 2.

It differs from `factor_vae` in that every image is used once a factor, in that the majority vote is scored on the votes
that it was fitted on (so chance is a little above one over the number of factors), and in its threshold.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from partedvae.training.evaluation.metrics.votes import FactorScore, count_votes, least_varying, majority_score

CHUNK = 100
"""Images that share one factor's value, for one vote."""
DROPPED_STD = 0.1
"""Votes for dimensions with a smaller standard deviation are dropped."""


def chunks_of_value(
    column: Int[np.ndarray, " images"], order: Int[np.ndarray, " images"]
) -> Int[np.ndarray, "chunks chunk"]:
    """Return disjoint chunks of `CHUNK` images that share a value of one factor; what is left of a value is not used.

    Args:
        column: value of the factor, image by image.
        order: all images in the order in which they fill the chunks of their value.
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

    A dimension below the threshold still takes part in the vote, and what it wins is dropped, as in the authors' code.
    A dimension that is constant takes no part: it has no relative variance.

    Args:
        representation: z's means, then u's, of all images (`Representation.joined`).
        values: true factors of the same images, from 0; each takes two values or more.
        rng: shuffles the images. In the order of a factor grid the images of a chunk share other factors too, and their
            dimensions would win the vote.

    Raises:
        ValueError: no factor has a value with `CHUNK` images.
    """
    dims = representation.shape[1]
    shape = (values.shape[1], dims)
    order = rng.permutation(len(representation))
    # Dimension by dimension: the float64 copies that exact variances need stay small.
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
