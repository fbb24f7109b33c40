"""Labels of groups: unlabelled images get the label of the labelled images in their group, by the features of a run.

With ten labels, a class that is found wrongly at the start is confirmed by consistency. Features trained without labels
(recipe `features`) group the images before; what is left to the labels is to name the groups. The groups are those of
k-means that starts from the labelled images of each class (seeded k-means, Basu et al. 2002) in a spectral embedding.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from partedvae.common.spectral import MOST_IMAGES, embedded
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.data.dataset import UNLABELLED, Split
from partedvae.training.evaluation.metrics.representation import represent
from partedvae.training.runs.directory import RunDirectory, RunError

SHARE = 0.8
"""Share of each group that gets its label: the images that are nearer to its centre than to others by most."""
FOLDS = 5
"""Parts of the labels, each of which is compared with the groups that the others name."""
FEWEST_COMPARED = 5
"""Fewest labels that are compared; with fewer, as with one label per class, the groups are trusted."""
AGREEMENT = 0.8
"""Share of these labels that the groups must have."""


class GroupLabels(NamedTuple):
    """Images that have no label of their own, and the labels of their groups."""

    images: Int[Tensor, " images"]
    """Indices of training images, ascending."""
    labels: Int[Tensor, "images factors"]
    """Class indices, -1 where the group of a factor has none."""
    notes: tuple[str, ...] = ()
    """What a user should know, such as factors that the groups do not show."""


def group_labels(config: TrainConfig, train: Split, labelled: Int[Tensor, " labels"]) -> GroupLabels:
    """Return the labels of groups by the features of the run `config.features_run`.

    Args:
        config: configuration of the run that is to be trained.
        train: its training images; labels other than those of `labelled` are not read.
        labelled: indices of its labelled images.

    Raises:
        RunError: the run is missing or damaged, has not ended, or is not one of features of such images.
    """
    features = RunDirectory(Path(config.features_run))
    features_config = features.load_config()
    _check(features, features_config, config)
    generator = np.random.default_rng(config.seed)
    free = np.setdiff1d(np.arange(len(train)), labelled.numpy())
    if len(free) > MOST_IMAGES:
        free = np.sort(generator.choice(free, MOST_IMAGES, replace=False))
    images = np.concatenate([labelled.numpy(), free])
    model, _ = features.load_model(torch.device("cpu"))
    u = represent(model, train.take(torch.from_numpy(images)).images, features_config).u_mean
    directions = u / np.maximum(np.linalg.norm(u, axis=1, keepdims=True), np.finfo(np.float32).tiny)

    labels = np.full((len(images), len(config.model.factors)), UNLABELLED, dtype=np.int64)
    notes = [
        f"{features.path} was trained on {features_config.dataset}, not on {config.dataset}; groups may mean less"
    ] * (features_config.dataset != config.dataset)
    for k, factor in enumerate(config.model.factors):
        own = train.labels[labelled, k].numpy()
        points = embedded(directions, len(factor.classes))
        agreeing, compared = agreement(points, own, len(factor.classes), config.seed)
        if compared >= FEWEST_COMPARED and agreeing < AGREEMENT * compared:
            notes.append(
                f"the groups of {features.path} have {agreeing} of {compared} labels of {factor.name}, too few to "
                "label other images by them"
            )
            continue
        labels[:, k] = named_groups(points, own, len(factor.classes), config.seed, SHARE)
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
    if not len(named) or len(points) < classes:
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
) -> tuple[int, int]:
    """Return how many labels the groups that other labels name have, and how many were compared.

    Args:
        points: as in `named_groups`.
        labels: as in `named_groups`; those whose class no other label has are not compared.
        classes: number of classes.
        seed: seed of the groups without a label.
    """
    known = np.flatnonzero(labels != UNLABELLED)
    agreeing = compared = 0
    for fold in range(FOLDS):
        left_out = known[fold::FOLDS]
        others = labels.copy()
        others[left_out] = UNLABELLED
        left_out = left_out[np.isin(labels[left_out], others)]
        if len(left_out):
            groups = named_groups(points, others, classes, seed)
            agreeing += int((groups[left_out] == labels[left_out]).sum())
            compared += len(left_out)
    return agreeing, compared


def _check(run: RunDirectory, features: TrainConfig, config: TrainConfig) -> None:
    if not features.objective.gamma_contrast:
        raise RunError(
            f"{run.path} is a run of the recipe {features.recipe}, whose u does not tell images apart before they "
            "have labels; pass a run of the recipe features"
        )
    if not run.summary_file.exists():
        raise RunError(f"{run.path} has not ended; continue it with 'partedvae train --resume {run.path}'")
    if features.model.image_size != config.model.image_size:
        sizes = ["x".join(map(str, size)) for size in (features.model.image_size, config.model.image_size)]
        raise RunError(f"the images of {run.path} are {sizes[0]}, those of {config.dataset} {sizes[1]}")
