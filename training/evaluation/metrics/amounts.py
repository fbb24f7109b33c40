"""The amount of an attribute in u: how well the size of a beard is predicted from the u of facial hair.

The paper's section 1 claims that u has the amount of an attribute whose labels are discrete. It is measured where a
data set was drawn with an ordered amount within a class (`Amount`), by a regression from u to the amount over the
images of that class, and the same from z for comparison.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

ROWS = 2_000
"""Maximum number of images of the class."""
FEWEST_ROWS = 50
"""An amount with fewer images is not measured."""
FOLDS = 5
KNOTS = 6
"""Knots of the cubic splines: a curve per dimension, as an amount need not be linear in u."""
PENALTIES = (1e-3, 1e-1, 1e1)
"""Candidates for the L2 penalty, chosen within the training rows of each fold."""


class AmountScore(NamedTuple):
    """How well an amount is predicted from the latents of the images of its class."""

    factor: str
    """Name of the labelled factor."""
    label: str
    """Name of its class."""
    amount: str
    """Name of the amount."""
    u: float
    """R^2 from the u of the factor: 1 if it is known exactly, about 0 if it is not in u."""
    z: float
    """R^2 from z."""
    rows: int
    """Number of images."""


def amount_r2(latent: Float[np.ndarray, "rows dims"], amount: Float[np.ndarray, " rows"], seed: int) -> float:
    """Return R^2 of a cross-validated additive regression of an amount on a latent; 0 or less if it is not in it.

    Args:
        latent: features of the images of one class.
        amount: their amounts, with at least two different values.
        seed: random seed of the folds.
    """
    # Imported late, as training and export import this module and measure at the end or not at all.
    from sklearn.linear_model import RidgeCV
    from sklearn.metrics import r2_score
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import SplineTransformer, StandardScaler

    model = make_pipeline(StandardScaler(), SplineTransformer(n_knots=KNOTS, knots="quantile"), RidgeCV(PENALTIES))
    # Dimensions without variance have no quantiles to place knots at.
    varying = latent[:, latent.std(axis=0) > 1e-6].astype(np.float64)
    if not varying.shape[1]:
        return 0.0
    folds = KFold(FOLDS, shuffle=True, random_state=seed)
    return float(r2_score(amount, cross_val_predict(model, varying, amount, cv=folds)))
