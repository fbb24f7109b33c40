"""SAP: the separated attribute predictability of Kumar et al. 2018 (section 3), with linear classifiers.

Every factor counts as discrete, and its score for a dimension is the accuracy of a linear support vector machine on
that dimension alone, as in disentanglement_lib and in the code of PartedVAE's authors. The numbers are small by nature:
thresholds on one dimension tell few of 40 values apart, and the runner-up has the accuracy of chance. Even a perfect
code has only 0.5 for a factor with two values.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from partedvae.training.evaluation.metrics.sampling import draw_split, top_gaps, with_rival

PENALTY = 0.01
"""C of the support vector machine (Locatello et al. 2019)."""


class SAP(NamedTuple):
    """The separated attribute predictability."""

    score: float
    """Mean of the gaps."""
    gaps: Float[np.ndarray, " factors"]
    """Accuracy of the best dimension minus that of the next best."""
    accuracy: Float[np.ndarray, "dims factors"]
    """Accuracy with which each dimension alone tells each factor of test images."""


def sap(
    representation: Float[np.ndarray, "images dims"],
    values: Int[np.ndarray, "images factors"],
    rng: np.random.Generator,
) -> SAP:
    """Return the score, from classifiers fitted on up to 10,000 images and tested on up to 5,000 others.

    Args:
        representation: of all images.
        values: true factors of the same images, from 0; each takes two values or more.
        rng: decides which images are used.
    """
    train, test = draw_split(rng, len(representation))
    fitted, tested = with_rival(representation[train]), with_rival(representation[test])
    accuracy = np.array(
        [
            [dimension_accuracy(fitted[:, [dim]], factor[train], tested[:, [dim]], factor[test]) for factor in values.T]
            for dim in range(fitted.shape[1])
        ]
    )
    gaps = top_gaps(accuracy)
    return SAP(score=float(gaps.mean()), gaps=gaps, accuracy=accuracy[: representation.shape[1]])


def dimension_accuracy(
    train: Float[np.ndarray, "train 1"],
    train_values: Int[np.ndarray, " train"],
    test: Float[np.ndarray, "test 1"],
    test_values: Int[np.ndarray, " test"],
) -> float:
    """Return the accuracy on test images of a linear classifier of one dimension, classes weighted alike."""
    if train_values.min() == train_values.max():
        # A rare value may be missing from the sample, and a classifier needs two.
        return float(np.mean(test_values == train_values[0]))
    classifier = LinearSVC(C=PENALTY, class_weight="balanced", dual=False)
    with warnings.catch_warnings():
        # A dimension that says nothing of a factor may leave the solver without an end; its accuracy is chance anyhow.
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(train, train_values)
    return float(np.mean(classifier.predict(test) == test_values))
