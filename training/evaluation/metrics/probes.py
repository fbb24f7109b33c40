"""Separation of class and latents: the accuracy of classifiers that predict a factor's class from u and from z.

The paper states that z does not contain the class and gives no measurement. A linear probe finds linearly separable
classes; a small network also finds nonlinear structure. Both are fitted to posterior means, which a user is served, and
to samples, which the decoder is trained on: a difference of means that is small beside the posterior's deviation is
information that the decoder cannot use.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from partedvae.training.data.dataset import UNLABELLED
from partedvae.training.evaluation.metrics.representation import Latents

ROWS = 10_000
"""Maximum number of images of a probe, training and test together."""
TEST_SHARE = 0.25
"""Share of them that is used for testing."""
FEWEST_TESTS = 200
"""With fewer labelled test images, probes are cross-validated, and labelled training images are added."""
CROSS_VALIDATED_ROWS = 1_000
"""Maximum number of images of a cross-validated probe."""
FOLDS = 5
"""Number of parts of the cross-validation; fewer if the rarest class has fewer images."""
HIDDEN_UNITS = 64
"""Units of the network's hidden layer."""
BATCH = 200
"""Batch size of the network."""
UPDATES = 4000
"""Maximum number of updates of the network, for any number of rows. There is no early stopping: of a thousand rows, the
validation rows are so few that the network stopped before it reached the accuracy of a linear probe."""
SMALL_ITERATIONS = 200
"""Maximum number of iterations of L-BFGS, which fits the network where it is cross-validated: faster for few rows."""
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
    """Accuracies from the means of z; near `chance` if z does not contain the class."""
    u: Probe
    """Accuracies from the means of the u of all factors; near the accuracy of q(c | x)."""
    z_samples: Probe
    """Accuracies from samples of z."""
    u_samples: Probe
    """Accuracies from samples of u."""
    chance: float
    """Accuracy on the test rows of always predicting the most frequent class of the training rows."""
    rows: int
    """Number of labelled images, training and test of the probes together."""
    train_images: int
    """How many of them are training images of the model; u of these may be better than that of new images."""
    folds: int
    """Number of parts of the cross-validation; 0 for a single division into training and test rows."""


def separation(
    means: Latents,
    samples: Latents,
    labels: Int[np.ndarray, "images factors"],
    names: tuple[str, ...],
    seed: int,
    tests: int | None = None,
) -> tuple[Separation, ...]:
    """Probe z and u for every factor with labels of at least two classes.

    Args:
        means: posterior means; test images first, then training images.
        samples: samples of the same posteriors.
        labels: classes of the images, -1 where not labelled.
        names: names of the factors.
        seed: random seed of the choice of images, of the division and of the network.
        tests: number of test images; None for all. The other images are used only for factors with fewer than
            `FEWEST_TESTS` labelled test images.

    Returns:
        One entry per factor, without factors with fewer than two classes among the images that a probe is fitted to.
    """
    count = len(labels) if tests is None else tests
    found = []
    for k, name in enumerate(names):
        rng = np.random.default_rng([seed, k])
        tested = np.flatnonzero(labels[:count, k] != UNLABELLED)
        if len(tested) >= FEWEST_TESTS:
            rows = rng.permutation(tested)[:ROWS]
            test, train = np.split(rows, [round(TEST_SHARE * len(rows))])
            divisions, folds = [(train, test)], 0
        else:
            trained = count + np.flatnonzero(labels[count:, k] != UNLABELLED)
            rows = np.concatenate([tested, rng.permutation(trained)])[:CROSS_VALIDATED_ROWS]
            rows, divisions = _folds(rows, labels[:, k], seed)
            folds = len(divisions)
        if not divisions or any(len(np.unique(labels[train, k])) < 2 for train, _ in divisions):
            continue
        u, z, u_samples, z_samples = (
            _mean_probe(latent, labels[:, k], divisions, seed) for latent in (*means, *samples)
        )
        found.append(
            Separation(
                factor=name,
                z=z,
                u=u,
                z_samples=z_samples,
                u_samples=u_samples,
                chance=_chance(labels[:, k], divisions),
                rows=len(rows),
                train_images=int((rows >= count).sum()),
                folds=folds,
            )
        )
    return tuple(found)


Division = tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]]
"""Indices of training rows and of test rows; folds differ in size by one."""


def _folds(
    rows: Int[np.ndarray, " rows"], labels: Int[np.ndarray, " images"], seed: int
) -> tuple[Int[np.ndarray, " kept"], list[Division]]:
    """Return the rows of classes with at least two, and their stratified divisions; none for fewer than two classes."""
    # Imported late, as in `probe`.
    from sklearn.model_selection import StratifiedKFold

    classes, counts = np.unique(labels[rows], return_counts=True)
    rows = rows[np.isin(labels[rows], classes[counts > 1])]
    if np.count_nonzero(counts > 1) < 2:
        return rows[:0], []
    splitter = StratifiedKFold(min(FOLDS, counts[counts > 1].min()), shuffle=True, random_state=seed)
    return rows, [(rows[train], rows[test]) for train, test in splitter.split(rows, labels[rows])]


def _chance(labels: Int[np.ndarray, " images"], divisions: list[Division]) -> float:
    hits = []
    for train, test in divisions:
        classes, counts = np.unique(labels[train], return_counts=True)
        hits.append(labels[test] == classes[counts.argmax()])
    return float(np.mean(np.concatenate(hits)))


def _mean_probe(
    latent: Float[np.ndarray, "images dims"],
    labels: Int[np.ndarray, " images"],
    divisions: list[Division],
    seed: int,
) -> Probe:
    """Return the accuracies over the test rows of all divisions, each row counted once."""
    total = sum(len(test) for _, test in divisions)
    linear = mlp = 0.0
    for train, test in divisions:
        found = probe(latent[train], labels[train], latent[test], labels[test], seed, small=len(divisions) > 1)
        linear += found.linear * len(test) / total
        mlp += found.mlp * len(test) / total
    return Probe(linear, mlp)


def probe(
    train: Float[np.ndarray, "train dims"],
    train_labels: Int[np.ndarray, " train"],
    test: Float[np.ndarray, "test dims"],
    test_labels: Int[np.ndarray, " test"],
    seed: int,
    *,
    small: bool = False,
) -> Probe:
    """Fit both classifiers on standardised training rows of at least two classes, and return their test accuracies.

    Test rows of a class that is missing from the training rows count as errors.

    Args:
        train: features of the training rows.
        train_labels: their classes.
        test: features of the test rows.
        test_labels: their classes.
        seed: random seed of the network's initial weights and batches.
        small: whether to fit the network to all rows at once, with L-BFGS.
    """
    # Imported late, as training and export import this module and measure at the end or not at all.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    batch = min(BATCH, len(train))
    epochs = -(-UPDATES * batch // len(train))
    network = (
        MLPClassifier((HIDDEN_UNITS,), alpha=WEIGHT_DECAY, solver="lbfgs", max_iter=SMALL_ITERATIONS, random_state=seed)
        if small
        else MLPClassifier((HIDDEN_UNITS,), alpha=WEIGHT_DECAY, batch_size=batch, max_iter=epochs, random_state=seed)
    )
    accuracies = []
    for classifier in (LogisticRegression(max_iter=500), network):
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
