"""MIG: the mutual information gap of Chen et al. 2018 (section 4, Eq. 6), with codes discretised to 20 bins."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from partedvae.training.evaluation.metrics.sampling import draw, top_gaps, with_second_dimension

BINS = 20
"""Number of equal-width bins between the minimum and maximum of a dimension (Locatello et al. 2019)."""


class MIG(NamedTuple):
    """The mutual information gap."""

    score: float
    """Mean of the gaps."""
    gaps: Float[np.ndarray, " factors"]
    """I(best dimension; factor) minus I(second best; factor), divided by H(factor); from 0 to 1."""
    information: Float[np.ndarray, "dims factors"]
    """Mutual information in nats of each discretised dimension and each factor."""


def binned(column: Float[np.ndarray, " images"]) -> Int[np.ndarray, " images"]:
    """Return the bin of each value; a constant dimension has a single bin."""
    inner = np.linspace(column.min(), column.max(), BINS + 1)[1:-1]
    bins: Int[np.ndarray, " images"] = np.digitize(column, inner)
    return bins


def entropy(counts: Int[np.ndarray, "*kinds"]) -> float:
    """Return the entropy in nats of the distribution proportional to some counts."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def mutual_information(bins: Int[np.ndarray, " images"], values: Int[np.ndarray, " images"]) -> float:
    """Return the empirical I(bin; value) in nats, H(bin) + H(value) - H(bin, value); never negative."""
    joint = np.zeros((bins.max() + 1, values.max() + 1), dtype=np.int64)
    np.add.at(joint, (bins, values), 1)
    # Rounding errors can make the sum negative.
    return max(0.0, entropy(joint.sum(axis=1)) + entropy(joint.sum(axis=0)) - entropy(joint))


def mig(
    representation: Float[np.ndarray, "images dims"],
    values: Int[np.ndarray, "images factors"],
    rng: np.random.Generator,
) -> MIG:
    """Return the mutual information gap on up to 10,000 images.

    A code with one dimension per factor scores 1 if no factor has more values than there are bins; otherwise the gap of
    that factor is at most log(bins) / log(values). Two equal dimensions for one factor make its gap 0.

    Args:
        representation: of all images.
        values: true factors of the same images, counted from 0; each has at least two values.
        rng: draws the images.
    """
    chosen = draw(rng, len(representation))
    code, truth = with_second_dimension(representation[chosen]), values[chosen]
    bins = [binned(column) for column in code.T]
    information = np.array([[mutual_information(column, factor) for factor in truth.T] for column in bins])
    entropies = np.array([entropy(np.bincount(factor)) for factor in truth.T])
    # A rare value may be missing from the sample; the gap of a constant factor is 0.
    gaps = np.divide(top_gaps(information), entropies, out=np.zeros_like(entropies), where=entropies > 0)
    return MIG(score=float(gaps.mean()), gaps=gaps, information=information[: representation.shape[1]])
