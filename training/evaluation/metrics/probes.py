"""Separation of class and latents: the accuracy of classifiers that predict a factor's class from u and from z.

The paper states that z does not contain the class and gives no measurement. A linear probe finds linearly separable
classes; a small network also finds nonlinear structure.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from partedvae.training.data.dataset import UNLABELLED

ROWS = 10_000
"""Maximum number of images of a probe, training and test together."""
TEST_SHARE = 0.25
"""Share of them that is used for testing."""
HIDDEN_UNITS = 64
"""Units of the network's hidden layer."""
BATCH = 200
"""Batch size of the network."""
UPDATES = 4000
"""Maximum number of updates of the network, for any number of rows. There is no early stopping: of a thousand rows, the
validation rows are so few that the network stopped before it reached the accuracy of a linear probe."""
WEIGHT_DECAY = 0.1
"""L2 penalty of the network, against overfitting to few rows."""


class Probe(NamedTuple):
    """Accuracies on test rows of classifiers that predict one factor from one latent."""

    linear: float
    """Accuracy of multinomial logistic regression."""
    mlp: float
    """Accuracy of a network with one hidden layer."""


class Separation(NamedTuple):
    """Probes of z and u for one factor."""

    factor: str
    """Name of the factor."""
    z: Probe
    """Accuracies from z; near `chance` if z does not contain the class."""
    u: Probe
    """Accuracies from the u of all factors; near the accuracy of q(c | x)."""
    chance: float
    """Accuracy on the test rows of always predicting the most frequent class of the training rows."""
    rows: int
    """Number of labelled images, training and test together."""


def separation(
    u_mean: Float[np.ndarray, "images u_dim"],
    z_mean: Float[np.ndarray, "images z_dim"],
    labels: Int[np.ndarray, "images factors"],
    names: tuple[str, ...],
    seed: int,
) -> tuple[Separation, ...]:
    """Probe z and u for every factor with labels of at least two classes.

    Args:
        u_mean: class-related features.
        z_mean: class-independent features of the same images.
        labels: their classes, -1 where not labelled.
        names: names of the factors.
        seed: random seed of the choice of images, of the split and of the network.

    Returns:
        One entry per factor, without factors with fewer than two labelled classes.
    """
    found = []
    for k, name in enumerate(names):
        rng = np.random.default_rng([seed, k])
        rows = rng.permutation(np.flatnonzero(labels[:, k] != UNLABELLED))[:ROWS]
        test, train = np.split(rows, [round(TEST_SHARE * len(rows))])
        classes, counts = np.unique(labels[train, k], return_counts=True)
        if len(classes) < 2 or not len(test):
            continue
        found.append(
            Separation(
                factor=name,
                z=probe(z_mean[train], labels[train, k], z_mean[test], labels[test, k], seed),
                u=probe(u_mean[train], labels[train, k], u_mean[test], labels[test, k], seed),
                chance=float(np.mean(labels[test, k] == classes[counts.argmax()])),
                rows=len(rows),
            )
        )
    return tuple(found)


def probe(
    train: Float[np.ndarray, "train dims"],
    train_labels: Int[np.ndarray, " train"],
    test: Float[np.ndarray, "test dims"],
    test_labels: Int[np.ndarray, " test"],
    seed: int,
) -> Probe:
    """Fit both classifiers on standardised training rows of at least two classes, and return their test accuracies.

    Test rows of a class that is missing from the training rows count as errors.

    Args:
        train: features of the training rows.
        train_labels: their classes.
        test: features of the test rows.
        test_labels: their classes.
        seed: random seed of the network's initial weights and batches.
    """
    batch = min(BATCH, len(train))
    epochs = -(-UPDATES * batch // len(train))
    classifiers = (
        LogisticRegression(max_iter=500),
        MLPClassifier((HIDDEN_UNITS,), alpha=WEIGHT_DECAY, batch_size=batch, max_iter=epochs, random_state=seed),
    )
    accuracies = []
    for classifier in classifiers:
        # Standardise, because both penalties depend on the scale of the latents. Constant dimensions are not changed.
        pipeline = make_pipeline(StandardScaler(), classifier)
        with warnings.catch_warnings():
            # The optimisers may not converge where the latent does not contain the class.
            warnings.simplefilter("ignore", ConvergenceWarning)
            pipeline.fit(_features(train), train_labels)
        accuracies.append(float(np.mean(pipeline.predict(_features(test)) == test_labels)))
    return Probe(*accuracies)


def _features(latent: Float[np.ndarray, "rows dims"]) -> Float[np.ndarray, "rows features"]:
    """Return a latent as float64; an empty one (u of a model without classes) becomes a constant."""
    return latent.astype(np.float64) if latent.shape[1] else np.zeros((len(latent), 1))
