"""What MIG, DCI and SAP share: the images that they are computed on, and the gap between the best two dimensions."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

TRAIN_SAMPLES = 10_000
"""Images that a score is fitted on, as in Locatello et al. 2019."""
TEST_SAMPLES = 5_000
"""Images that a fitted predictor is tested on, as in Locatello et al. 2019."""


def draw(rng: np.random.Generator, images: int) -> Int[np.ndarray, " chosen"]:
    """Return `TRAIN_SAMPLES` of so many images, each at most once; all of them, shuffled, if there are fewer."""
    return rng.permutation(images)[:TRAIN_SAMPLES]


def draw_split(rng: np.random.Generator, images: int) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " test"]]:
    """Return `TRAIN_SAMPLES` and `TEST_SAMPLES` of so many images, disjoint; of fewer, two thirds and one third."""
    order = rng.permutation(images)[: TRAIN_SAMPLES + TEST_SAMPLES]
    boundary = len(order) * TRAIN_SAMPLES // (TRAIN_SAMPLES + TEST_SAMPLES)
    return order[:boundary], order[boundary:]


def top_gaps(table: Float[np.ndarray, "dims factors"]) -> Float[np.ndarray, " factors"]:
    """Return, for each factor, how far its best dimension is ahead of the next best. Needs two dimensions or more."""
    ordered = np.sort(table, axis=0)
    gaps: Float[np.ndarray, " factors"] = ordered[-1] - ordered[-2]
    return gaps


def with_rival(representation: Float[np.ndarray, "images dims"]) -> Float[np.ndarray, "images rivals"]:
    """Return the representation as float64; one of a single dimension gets a constant second, so that it has a gap."""
    wide = representation.astype(np.float64)
    return np.pad(wide, ((0, 0), (0, 1))) if wide.shape[1] == 1 else wide
