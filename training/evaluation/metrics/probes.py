"""Separation: can a classifier read a factor's class off z, where it should not be, and off u, where it should.

The paper claims that z is free of the class and gives no number. A linear probe finds what lies open; a small network
also finds what is folded.
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
"""Most images that a probe sees, train and test together."""
TEST_SHARE = 0.25
"""Share of them that accuracies are measured on."""
HIDDEN_UNITS = 64
"""Of the network's one hidden layer."""
BATCH = 200
"""Rows of one update of the network."""
UPDATES = 4000
"""Most updates of the network, however few the rows. Not stopped by validation rows: of a thousand rows they are so few
that the network stopped before it had found what a linear probe finds."""
WEIGHT_DECAY = 0.1
"""What keeps the network from learning few rows by heart."""


class Probe(NamedTuple):
    """How well classifiers read one factor off one latent: accuracies on test rows."""

    linear: float
    """Of multinomial logistic regression."""
    mlp: float
    """Of a network with one hidden layer."""


class Separation(NamedTuple):
    """What z and u say of one factor."""

    factor: str
    """Name of the factor."""
    z: Probe
    """Read off z; near `chance` where the class is separated from it."""
    u: Probe
    """Read off u, of all factors; near the accuracy of q(c | x)."""
    chance: float
    """Accuracy on the test rows of always naming the training rows' most frequent class."""
    rows: int
    """Labelled images used, train and test together."""


def separation(
    u_mean: Float[np.ndarray, "images u_dim"],
    z_mean: Float[np.ndarray, "images z_dim"],
    labels: Int[np.ndarray, "images factors"],
    names: tuple[str, ...],
    seed: int,
) -> tuple[Separation, ...]:
    """Probe z and u for every factor whose labels show two classes or more.

    Args:
        u_mean: class-related features.
        z_mean: class-independent features of the same images.
        labels: their classes, -1 where not labelled.
        names: names of the factors.
        seed: decides which images are used and which of them are test rows, and seeds the network.

    Returns:
        One entry a factor, without those that have no two labelled classes to tell apart.
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
    """Fit both classifiers on training rows, standardised, of two classes or more, and test them on the others.

    A class that training rows do not show counts as wrong wherever test rows have it.

    Args:
        train: features of the training rows.
        train_labels: their classes.
        test: features of the test rows.
        test_labels: their classes.
        seed: of the network's first weights and of its batches.
    """
    batch = min(BATCH, len(train))
    epochs = -(-UPDATES * batch // len(train))
    classifiers = (
        LogisticRegression(max_iter=500),
        MLPClassifier((HIDDEN_UNITS,), alpha=WEIGHT_DECAY, batch_size=batch, max_iter=epochs, random_state=seed),
    )
    accuracies = []
    for classifier in classifiers:
        # Latents differ in scale, and the penalties of both do not know it. Constant dimensions stay as they are.
        pipeline = make_pipeline(StandardScaler(), classifier)
        with warnings.catch_warnings():
            # Where there is nothing to find, there is no end to the search; the accuracy is what it is then.
            warnings.simplefilter("ignore", ConvergenceWarning)
            pipeline.fit(_features(train), train_labels)
        accuracies.append(float(np.mean(pipeline.predict(_features(test)) == test_labels)))
    return Probe(*accuracies)


def _features(latent: Float[np.ndarray, "rows dims"]) -> Float[np.ndarray, "rows features"]:
    """Return a latent as float64; one without dimensions, as u is in a model without classes, becomes a constant."""
    return latent.astype(np.float64) if latent.shape[1] else np.zeros((len(latent), 1))
