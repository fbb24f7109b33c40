"""SAP: the separated attribute predictability of Kumar et al. 2018 (section 3), with linear classifiers.

Every factor is treated as discrete, and its score for a dimension is the accuracy of a linear support vector machine on
that dimension alone, as in disentanglement_lib and in the code of PartedVAE's authors. The scores are inherently small:
thresholds on one dimension distinguish few of 40 values, and the second-best dimension has the accuracy of chance. A
perfect code scores only 0.5 for a factor with two values.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from partedvae.training.evaluation.metrics.sampling import draw_split, top_gaps, with_second_dimension

PENALTY = 0.01
"""C of the support vector machine (Locatello et al. 2019)."""


class SAP(NamedTuple):
    """The separated attribute predictability."""

    score: float
    """Mean of the gaps."""
    gaps: Float[np.ndarray, " factors"]
    """Accuracy of the best dimension minus that of the second best."""
    accuracy: Float[np.ndarray, "dims factors"]
    """Accuracy on test images of predicting each factor from each dimension alone."""


def sap(
    representation: Float[np.ndarray, "images dims"],
    values: Int[np.ndarray, "images factors"],
    rng: np.random.Generator,
) -> SAP:
    """Return the score, from classifiers fitted on up to 10,000 images and tested on up to 5,000 others.

    Args:
        representation: of all images.
        values: true factors of the same images, counted from 0; each has at least two values.
        rng: draws the images.
    """
    train, test = draw_split(rng, len(representation))
    fitted, tested = with_second_dimension(representation[train]), with_second_dimension(representation[test])
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
    """Return the test accuracy of a linear classifier of one dimension, with balanced class weights.

    Args:
        train: the dimension, of training images.
        train_values: value of the factor of the training images.
        test: the dimension, of test images.
        test_values: value of the factor of the test images.
    """
    if train_values.min() == train_values.max():
        # A rare value may be missing from the sample; a classifier needs two.
        return float(np.mean(test_values == train_values[0]))
    classifier = LinearSVC(C=PENALTY, class_weight="balanced", dual=False)
    with warnings.catch_warnings():
        # The solver may not converge for an uninformative dimension, whose accuracy is that of chance.
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(train, train_values)
    return float(np.mean(classifier.predict(test) == test_values))
