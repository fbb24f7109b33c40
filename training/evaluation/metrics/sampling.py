"""Functions shared by MIG, DCI and SAP: sampling of images, and the gap between the two best dimensions."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

TRAIN_SAMPLES = 10_000
"""Number of images to fit a score on (Locatello et al. 2019)."""
TEST_SAMPLES = 5_000
"""Number of images to test a fitted predictor on (Locatello et al. 2019)."""


def draw(rng: np.random.Generator, images: int) -> Int[np.ndarray, " chosen"]:
    """Return `TRAIN_SAMPLES` indices without replacement; all of them, shuffled, if there are fewer images."""
    return rng.permutation(images)[:TRAIN_SAMPLES]


def draw_split(rng: np.random.Generator, images: int) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " test"]]:
    """Return `TRAIN_SAMPLES` and `TEST_SAMPLES` disjoint indices; of fewer images, two thirds and one third."""
    order = rng.permutation(images)[: TRAIN_SAMPLES + TEST_SAMPLES]
    boundary = len(order) * TRAIN_SAMPLES // (TRAIN_SAMPLES + TEST_SAMPLES)
    return order[:boundary], order[boundary:]


def top_gaps(table: Float[np.ndarray, "dims factors"]) -> Float[np.ndarray, " factors"]:
    """Return, for each factor, the best dimension's value minus the second best's; needs at least two dimensions."""
    ordered = np.sort(table, axis=0)
    gaps: Float[np.ndarray, " factors"] = ordered[-1] - ordered[-2]
    return gaps


def with_second_dimension(representation: Float[np.ndarray, "images dims"]) -> Float[np.ndarray, "images padded_dims"]:
    """Return the representation as float64; a single dimension is padded by a constant one, so that there is a gap."""
    wide = representation.astype(np.float64)
    return np.pad(wide, ((0, 0), (0, 1))) if wide.shape[1] == 1 else wide
