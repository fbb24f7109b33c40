"""DCI: disentanglement, completeness and informativeness (Eastwood and Williams 2018, section 2).

The importances are those of classifiers, because the values of a factor need not be ordered; informativeness is
therefore an accuracy, as in Locatello et al. 2019. By default they are random forests, one of the two predictors of
Eastwood and Williams (the other is the lasso), which take seconds. Published numbers are mostly those of
disentanglement_lib (Locatello et al. 2019), whose gradient boosting takes minutes: on a noisy code it finds a
disentanglement half as high again, so that only its scores can be compared with published ones.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier

from partedvae.training.evaluation.metrics.sampling import draw_split

Predictor = Literal["forest", "boosting"]
"""Classifier that gives the importances: random forest, or gradient boosting as in disentanglement_lib."""
TREES = 20
"""Number of trees of a forest."""
LEAF = 5
"""Minimum number of images of a leaf; with fewer, noise within a value gains importance."""


class DCI(NamedTuple):
    """The three scores."""

    disentanglement: float
    """1 if each dimension is important for one factor only, 0 if each is equally important for all."""
    completeness: float
    """1 if each factor is encoded in one dimension, 0 if it is spread equally over all."""
    informativeness: float
    """Mean accuracy of the classifiers on test images."""
    importance: Float[np.ndarray, "dims factors"]
    """Importance of each dimension for a factor; a column sums to 1, or to 0 if no dimension is informative."""
    predictor: Predictor
    """The classifiers."""


def concentration(importance: Float[np.ndarray, "entries kinds"]) -> Float[np.ndarray, " entries"]:
    """Return 1 minus the normalised entropy of each row: 1 for a single kind, 0 for equal shares and for an empty row.

    Args:
        importance: non-negative; rows need not sum to 1. With a single column, every row that is not empty has 1.
    """
    totals = importance.sum(axis=1, keepdims=True)
    shares = np.divide(importance, totals, out=np.zeros_like(importance), where=totals > 0)
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    entropies = -(shares * logs).sum(axis=1) / np.log(max(importance.shape[1], 2))
    return np.where(totals[:, 0] > 0, 1 - entropies, 0.0)


def disentanglement(importance: Float[np.ndarray, "dims factors"]) -> float:
    """Return the mean concentration of dimensions on factors, weighted by the dimensions' importance (section 2)."""
    weights = importance.sum(axis=1)
    return float((concentration(importance) * weights).sum() / weights.sum()) if weights.any() else 0.0


def completeness(importance: Float[np.ndarray, "dims factors"]) -> float:
    """Return the mean concentration of factors on dimensions (section 2)."""
    return float(concentration(importance.T).mean())


def dci(
    representation: Float[np.ndarray, "images dims"],
    values: Int[np.ndarray, "images factors"],
    rng: np.random.Generator,
    predictor: Predictor = "forest",
) -> DCI:
    """Return the three scores, from classifiers fitted on up to 10,000 images and tested on up to 5,000 others.

    Args:
        representation: of all images.
        values: true factors of the same images, counted from 0; each has at least two values.
        rng: draws the images and seeds the classifiers.
        predictor: classifiers that give the importances.
    """
    train, test = draw_split(rng, len(representation))
    columns, accuracies = [], []
    for factor in values.T:
        classifier = _classifier(predictor, int(rng.integers(2**31)))
        classifier.fit(representation[train], factor[train])
        columns.append(np.asarray(classifier.feature_importances_, dtype=np.float64))
        accuracies.append(float(np.mean(classifier.predict(representation[test]) == factor[test])))
    importance = np.stack(columns, axis=1)
    return DCI(
        disentanglement=disentanglement(importance),
        completeness=completeness(importance),
        informativeness=float(np.mean(accuracies)),
        importance=importance,
        predictor=predictor,
    )


def _classifier(predictor: Predictor, seed: int) -> RandomForestClassifier | GradientBoostingClassifier:
    if predictor == "boosting":
        # scikit-learn's defaults, as in disentanglement_lib: 100 rounds of trees of depth 3, rate 0.1.
        return GradientBoostingClassifier(random_state=seed)
    # All dimensions at every split: a random subset would give importance to uninformative dimensions.
    return RandomForestClassifier(TREES, max_features=None, min_samples_leaf=LEAF, random_state=seed)
