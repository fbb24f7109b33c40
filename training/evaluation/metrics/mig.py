"""MIG: the mutual information gap of Chen et al. 2018 (section 4, Eq. 6), on codes in 20 bins."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from partedvae.training.evaluation.metrics.sampling import draw, top_gaps, with_rival

BINS = 20
"""Bins of equal width between a dimension's smallest and largest value (Locatello et al. 2019)."""


class MIG(NamedTuple):
    """The mutual information gap."""

    score: float
    """Mean of the gaps."""
    gaps: Float[np.ndarray, " factors"]
    """I(best dimension; factor) minus I(next best; factor), over H(factor): from 0 to 1."""
    information: Float[np.ndarray, "dims factors"]
    """Mutual information of each dimension, in bins, and each factor, in nats."""


def binned(column: Float[np.ndarray, " images"]) -> Int[np.ndarray, " images"]:
    """Return the bin of each value; the values of a constant dimension share one bin."""
    inner = np.linspace(column.min(), column.max(), BINS + 1)[1:-1]
    bins: Int[np.ndarray, " images"] = np.digitize(column, inner)
    return bins


def entropy(counts: Int[np.ndarray, "*kinds"]) -> float:
    """Return the entropy, in nats, of the distribution that counts are proportional to."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def mutual_information(bins: Int[np.ndarray, " images"], values: Int[np.ndarray, " images"]) -> float:
    """Return I(bin; value) of the sample in nats, H(bin) + H(value) - H(both); never below zero."""
    joint = np.zeros((bins.max() + 1, values.max() + 1), dtype=np.int64)
    np.add.at(joint, (bins, values), 1)
    # Rounding alone can make the sum negative.
    return max(0.0, entropy(joint.sum(axis=1)) + entropy(joint.sum(axis=0)) - entropy(joint))


def mig(
    representation: Float[np.ndarray, "images dims"],
    values: Int[np.ndarray, "images factors"],
    rng: np.random.Generator,
) -> MIG:
    """Return the mutual information gap on up to 10,000 images.

    A code with one dimension a factor has 1 if no factor has more values than there are bins; with more, at most
    log(bins) / log(values) for that factor. Two dimensions for one factor make its gap 0.

    Args:
        representation: of all images.
        values: true factors of the same images, from 0; each takes two values or more.
        rng: decides which images are used.
    """
    chosen = draw(rng, len(representation))
    code, truth = with_rival(representation[chosen]), values[chosen]
    bins = [binned(column) for column in code.T]
    information = np.array([[mutual_information(column, factor) for factor in truth.T] for column in bins])
    entropies = np.array([entropy(np.bincount(factor)) for factor in truth.T])
    # A rare value may be missing from the sample: where a factor is constant there is nothing to be ahead in.
    gaps = np.divide(top_gaps(information), entropies, out=np.zeros_like(entropies), where=entropies > 0)
    return MIG(score=float(gaps.mean()), gaps=gaps, information=information[: representation.shape[1]])
