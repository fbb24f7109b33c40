"""What both Factor scores share: a table of votes, and the score that a majority vote over it gets.

A vote: among images that share the value of one factor, the dimension that varies least (relative to how it varies over
all images) is the one that holds this factor. A dimension belongs to the factor that most of its votes come from.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

GROUPS_AT_A_TIME = 500
"""It changes nothing but memory."""


class FactorScore(NamedTuple):
    """A Factor score and the votes that it was counted from."""

    score: float
    """Share of the votes that come from the factor their dimension belongs to; 0 when no dimension is active."""
    votes: Int[np.ndarray, "factors dims"]
    """The votes that were scored, by the factor that was fixed and the dimension that varied least."""
    active: Bool[np.ndarray, " dims"]
    """Dimensions that vary over the images; the others get no votes."""


def count_votes(
    factors: Int[np.ndarray, " votes"], dims: Int[np.ndarray, " votes"], shape: tuple[int, int]
) -> Int[np.ndarray, "factors dims"]:
    """Count votes by their factor and their dimension.

    Args:
        factors: index of the factor that was fixed.
        dims: index of the dimension that varied least.
        shape: numbers of factors and of dimensions.
    """
    cells = np.bincount(factors * shape[1] + dims, minlength=shape[0] * shape[1])
    table: Int[np.ndarray, "factors dims"] = cells.reshape(shape)
    return table


def majority_score(owners: Int[np.ndarray, " dims"], votes: Int[np.ndarray, "factors dims"]) -> float:
    """Return the share of votes whose factor owns their dimension; 0 when there are no votes."""
    total = votes.sum()
    return float(votes[owners, np.arange(votes.shape[1])].sum() / total) if total else 0.0


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
        scale: variance of each dimension over all images; a dimension where it is 0 is never chosen while there is
            another.
        ddof: 1 for the unbiased variance, 0 for the mean squared deviation.
    """
    chosen = np.empty(len(groups), dtype=np.int64)
    for start in range(0, len(groups), GROUPS_AT_A_TIME):
        block = slice(start, start + GROUPS_AT_A_TIME)
        variances = representation[groups[block]].astype(np.float64).var(axis=1, ddof=ddof)
        relative = np.full_like(variances, np.inf)
        np.divide(variances, scale, out=relative, where=scale > 0)
        chosen[block] = relative.argmin(axis=1)
    return chosen
