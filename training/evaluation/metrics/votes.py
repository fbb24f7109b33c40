"""Functions shared by both Factor scores: the table of votes and the score of a majority vote.

A vote is for the dimension that varies least, relative to its variance over all images, among images that share the
value of one factor. A dimension is assigned to the factor that most of its votes come from.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

GROUPS_PER_BLOCK = 500
"""Groups of images per block of computation; affects only memory."""


class FactorScore(NamedTuple):
    """A Factor score and its votes."""

    score: float
    """Share of the votes that come from the factor assigned to their dimension; 0 when no dimension is active."""
    votes: Int[np.ndarray, "factors dims"]
    """Number of scored votes by fixed factor and least varying dimension."""
    active: Bool[np.ndarray, " dims"]
    """Whether a dimension varies over the images; the others get no votes."""


def count_votes(
    factors: Int[np.ndarray, " votes"], dims: Int[np.ndarray, " votes"], shape: tuple[int, int]
) -> Int[np.ndarray, "factors dims"]:
    """Count votes by factor and dimension.

    Args:
        factors: index of the factor that was fixed.
        dims: index of the dimension that varied least.
        shape: numbers of factors and of dimensions.
    """
    cells = np.bincount(factors * shape[1] + dims, minlength=shape[0] * shape[1])
    table: Int[np.ndarray, "factors dims"] = cells.reshape(shape)
    return table


def majority_score(assigned: Int[np.ndarray, " dims"], votes: Int[np.ndarray, "factors dims"]) -> float:
    """Return the share of votes whose factor is assigned to their dimension; 0 when there are no votes."""
    total = votes.sum()
    return float(votes[assigned, np.arange(votes.shape[1])].sum() / total) if total else 0.0


def least_varying(
    representation: Float[np.ndarray, "images dims"],
    groups: Int[np.ndarray, "groups members"],
    scale: Float[np.ndarray, " dims"],
    ddof: int,
) -> Int[np.ndarray, " groups"]:
    """Return, for each group of images, the dimension with the smallest variance in units of `scale`.

    Args:
        representation: of all images.
        groups: indices of the images of each group.
        scale: variance of each dimension over all images; a dimension with 0 is chosen only if all others have 0.
        ddof: 1 for the unbiased variance, 0 for the mean squared deviation.
    """
    chosen = np.empty(len(groups), dtype=np.int64)
    for start in range(0, len(groups), GROUPS_PER_BLOCK):
        block = slice(start, start + GROUPS_PER_BLOCK)
        variances = representation[groups[block]].astype(np.float64).var(axis=1, ddof=ddof)
        relative = np.full_like(variances, np.inf)
        np.divide(variances, scale, out=relative, where=scale > 0)
        chosen[block] = relative.argmin(axis=1)
    return chosen
