"""Labels of groups: unlabelled images get the label of the labelled images in their group, by the features of a run.

With ten labels, a class that is found wrongly at the start is confirmed by consistency. Features trained without labels
(recipe `features`) group the images before; what is left to the labels is to name the groups. The groups are those of
k-means that starts from the labelled images of each class (seeded k-means, Basu et al. 2002) in a spectral embedding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from partedvae.common.spectral import MOST_IMAGES, embedded
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.data.dataset import UNLABELLED, Split, size_text
from partedvae.training.evaluation.metrics.representation import represent
from partedvae.training.runs.directory import RunDirectory, RunError

SHARE = 0.8
"""Share of each group that gets its label: the images with the largest margin between their two nearest centres."""
MOST_LABELS = 2_000
"""Number of labelled images above which labels of groups are not used."""
FOLDS = 5
"""Parts of the labels, each of which is compared with the groups that the others name."""
FEWEST_COMPARED = 5
"""Fewest labels that are compared; with fewer, as with one label per class, the groups are trusted."""
AGREEMENT = 0.8
"""Share of the labels of a class that its group must have, in the mean over classes."""


class GroupLabels(NamedTuple):
    """Images that have no label of their own, and the labels of their groups."""

    images: Int[Tensor, " images"]
    """Indices of training images, in no order."""
    labels: Int[Tensor, "images factors"]
    """Class indices, -1 where the group of a factor has none."""
    notes: tuple[str, ...] = ()
    """What a user should know, such as factors that the groups do not show."""


class Agreement(NamedTuple):
    """How the groups that some labels name agree with the other labels."""

    share: float
    """Share of the compared labels of a class that the groups have: the mean over classes; NaN where none are."""
    labels: int
    """Number of labels that were compared."""
    classes: int
    """Number of their classes."""

    @property
    def is_poor(self) -> bool:
        """Whether enough labels were compared, and the groups do not show the classes."""
        return self.labels >= FEWEST_COMPARED and (self.classes < 2 or self.share < AGREEMENT)


def group_labels(config: TrainConfig, train: Split, labelled: Int[Tensor, " labels"]) -> GroupLabels:
    """Return the labels of groups by the features of the run `config.features_run`.

    Args:
        config: configuration of the run that is to be trained.
        train: its training images; labels other than those of `labelled` are not read.
        labelled: indices of its labelled images.

    Raises:
        RunError: the run is missing or damaged, has not ended, or is not one of features of such images.
    """
    from threadpoolctl import threadpool_limits

    run = RunDirectory(Path(config.features_run))
    features = _checked_config(run, config)
    factors = config.model.factors
    notes = list(_notes(run, features, config))
    if len(labelled) > MOST_LABELS:
        notes.append(f"{len(labelled):,} labels are enough without those of groups")
        none = torch.empty(0, dtype=torch.int64)
        return GroupLabels(none, none.reshape(0, len(factors)), tuple(notes))
    free = np.setdiff1d(np.arange(len(train)), labelled.numpy())
    if len(free) > MOST_IMAGES:
        free = np.random.default_rng(config.seed).choice(free, MOST_IMAGES, replace=False)
    images = np.concatenate([labelled.numpy(), free])
    model, _ = run.load_model(torch.device("cpu"))
    u = represent(model, train.take(torch.from_numpy(images)).images, features).u_mean
    directions = u / np.maximum(np.linalg.norm(u, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    labels = np.full((len(images), len(factors)), UNLABELLED, dtype=np.int64)
    # With more threads, sums could be rounded in another order.
    with threadpool_limits(1):
        points = {count: embedded(directions, count) for count in {len(factor.classes) for factor in factors}}
        for k, factor in enumerate(factors):
            classes = len(factor.classes)
            own = train.labels[labelled, k].numpy()
            found = agreement(points[classes], own, classes, config.seed)
            if found.is_poor:
                reason = (
                    f"the groups of {run.path} cannot be compared with {factor.name}: all {found.labels} labels that "
                    "could be compared are of one class; label two or more images of another one"
                    if found.classes < 2
                    else f"the groups of {run.path} do not show the classes of {factor.name}: on average over "
                    f"classes, they have {found.share:.0%} of the {found.labels} labels that were compared"
                )
                notes.append(f"{reason}. Other images get no label of it")
                continue
            labels[:, k] = named_groups(points[classes], own, classes, config.seed, SHARE)
    labels[: len(labelled)] = UNLABELLED
    chosen = np.flatnonzero((labels != UNLABELLED).any(axis=1))
    return GroupLabels(torch.from_numpy(images[chosen]), torch.from_numpy(labels[chosen]), tuple(notes))


def named_groups(
    points: Float[np.ndarray, "images dims"], labels: NDArray[np.int64], classes: int, seed: int, share: float = 1.0
) -> NDArray[np.int64]:
    """Return the class of the group of each image [images], -1 for a group without a label.

    Args:
        points: features in which classes are compact.
        labels: classes of the first images, -1 where unknown.
        classes: number of classes, and of groups.
        seed: seed of the groups without a label.
        share: share of each group to name; the others, between two groups, are -1.
    """
    from sklearn.cluster import KMeans

    named = np.unique(labels[labels != UNLABELLED])
    result = np.full(len(points), UNLABELLED, dtype=np.int64)
    if not len(named) or len(np.unique(points.round(4), axis=0)) < classes:
        return result
    centres = np.stack([points[: len(labels)][labels == c].mean(axis=0) for c in named])
    if missing := classes - len(named):
        anywhere = KMeans(classes, random_state=seed, n_init=10).fit(points).cluster_centers_
        distances = np.linalg.norm(anywhere[:, None] - centres[None], axis=2).min(axis=1)
        centres = np.concatenate([centres, anywhere[np.argsort(-distances, kind="stable")[:missing]]])
    distances = KMeans(classes, init=centres, n_init=1).fit_transform(points)
    nearest = distances.argmin(axis=1)
    two = np.partition(distances, 1, axis=1)[:, :2]
    margins = two.max(axis=1) - two.min(axis=1)
    for group, name in enumerate(named):
        members = np.flatnonzero(nearest == group)
        order = members[np.argsort(-margins[members], kind="stable")]
        result[order[: round(share * len(order))]] = name
    return result


def agreement(
    points: Float[np.ndarray, "images dims"], labels: NDArray[np.int64], classes: int, seed: int
) -> Agreement:
    """Compare each fifth of the labels with the groups that the others name.

    Args:
        points: as in `named_groups`.
        labels: as in `named_groups`; those whose class no other label has are not compared.
        classes: number of classes.
        seed: seed of the groups without a label.
    """
    known = np.flatnonzero(labels != UNLABELLED)
    compared, agreeing = np.zeros(classes), np.zeros(classes)
    for fold in range(FOLDS):
        left_out = known[fold::FOLDS]
        others = labels.copy()
        others[left_out] = UNLABELLED
        left_out = left_out[np.isin(labels[left_out], others)]
        if len(left_out):
            groups = named_groups(points, others, classes, seed)
            np.add.at(compared, labels[left_out], 1)
            np.add.at(agreeing, labels[left_out], groups[left_out] == labels[left_out])
    some = compared > 0
    share = float((agreeing[some] / compared[some]).mean()) if some.any() else math.nan
    return Agreement(share, int(compared.sum()), int(some.sum()))


def _checked_config(run: RunDirectory, config: TrainConfig) -> TrainConfig:
    """Return the configuration of a run of features.

    Raises:
        RunError: the run is missing, has not ended, or is not one of features of images of this size.
    """
    features = run.load_config()
    if not features.objective.gamma_contrast:
        raise RunError(
            f"u of {run.path} does not tell images apart before they have labels, as its objective.gamma_contrast is "
            "0; pass a run of --recipe features as --features"
        )
    if not run.summary_file.exists():
        raise RunError(f"{run.path} has not ended; continue it with 'partedvae train --resume {run.path}'")
    if features.model.image_size != config.model.image_size:
        sizes = [size_text(size) for size in (features.model.image_size, config.model.image_size)]
        raise RunError(
            f"the images of {run.path} are {sizes[0]}, those of {config.dataset} {sizes[1]}; train features of these "
            f"with 'partedvae train {config.dataset} --recipe features'"
        )
    return features


def _notes(run: RunDirectory, features: TrainConfig, config: TrainConfig) -> Iterator[str]:
    """Yield how the images of the run of features differ from those that are to be trained on."""
    if features.dataset != config.dataset:
        yield f"{run.path} was trained on {features.dataset}, not on {config.dataset}; its groups may mean less"
    if features.fit != config.fit:
        yield f"{run.path} was trained with --fit {features.fit}, not {config.fit}; its groups may mean less"
