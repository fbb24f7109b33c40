"""Strategies that rank unlabelled images by what a label of each would teach, given the features of all images.

typical: TypiClust (Hacohen et al. 2022, https://arxiv.org/abs/2202.02794): typical images of clusters without a label;
    the clusters are those of a spectral embedding.
coverage: ProbCover (Yehuda et al. 2022, https://arxiv.org/abs/2205.11320): images near which most others are.
margin: images between two classes, as the model sees them (Scheffer et al. 2001). With few labels, typical images teach
more, and the images a model is least sure of teach less than random ones.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from partedvae.common.spectral import MOST_IMAGES, embedded
from partedvae.results import FloatArray

Indices = NDArray[np.int64]
Strategy = Literal["auto", "typical", "coverage", "margin"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)

NEIGHBOURS = 20
"""Nearest neighbours whose mean distance makes an image typical, as in TypiClust."""
MAX_CLUSTERS = 500
"""Most clusters, as in TypiClust: with more, each has too few images to be typical of them."""
FEWEST = 5
"""Smaller clusters are outliers, and come last."""
MARGIN_FROM = 10
"""Labels per class from which auto chooses margin."""
PURITY = 0.95
"""Share of neighbourhoods within one cluster, from which the radius of `coverage` follows, as in ProbCover."""


def choose_strategy(strategy: Strategy, labelled: int, probs: FloatArray | None) -> Strategy:
    """Return the strategy that auto stands for: margin with many labels per class, typical otherwise; or the strategy.

    Args:
        strategy: one of `STRATEGIES`.
        labelled: number of labelled images.
        probs: probabilities of the classes [images, classes]; None without a model that knows them.
    """
    if strategy != "auto":
        return strategy
    return "margin" if probs is not None and labelled >= MARGIN_FROM * probs.shape[1] else "typical"


def rank(
    features: FloatArray,
    labelled: Indices,
    count: int,
    strategy: Strategy = "auto",
    probs: FloatArray | None = None,
    seed: int = 0,
) -> Indices:
    """Return the unlabelled images to label next, the most useful first.

    Args:
        features: features of all images [images, dims].
        labelled: indices of those that have a label.
        count: number of images; fewer are returned where fewer are unlabelled.
        strategy: one of `STRATEGIES`.
        probs: probabilities of the classes [images, classes], which margin needs.
        seed: seed of the clusters, and of the sample of many images.

    Raises:
        ValueError: margin has no probabilities.
    """
    strategy = choose_strategy(strategy, len(labelled), probs)
    free = np.setdiff1d(np.arange(len(features), dtype=np.int64), labelled)
    count = min(count, len(free))
    if count <= 0:
        return np.empty(0, dtype=np.int64)
    if strategy == "margin":
        if probs is None:
            raise ValueError("the strategy margin needs the probabilities of the classes")
        top = np.partition(probs[free], -2, axis=1)
        return free[np.argsort(top[:, -1] - top[:, -2], kind="stable")[:count]]
    if strategy == "coverage":
        return _coverage(features, labelled, free, count, seed)
    return _typical(features, labelled, free, count, seed)


def _typical(features: FloatArray, labelled: Indices, free: Indices, count: int, seed: int) -> Indices:
    indices = _sampled(labelled, free, count, seed)
    points = features[indices]
    cluster_count = max(1, min(len(labelled) + count, MAX_CLUSTERS, len(points)))
    embedding = embedded(points, cluster_count)
    cluster_count = min(cluster_count, len(np.unique(embedding.round(4), axis=0)))
    clusters = _clusters(embedding, cluster_count, seed)
    sizes = np.bincount(clusters, minlength=cluster_count)
    covered = np.bincount(clusters[: len(labelled)], minlength=cluster_count)
    left = sizes - covered
    waiting: dict[int, list[int]] = {}
    chosen: list[int] = []
    while len(chosen) < count:
        candidates = np.flatnonzero(left).tolist()
        # Clusters with the fewest labels first, of these the largest; outliers last.
        best = min(candidates, key=lambda c: (sizes[c] < FEWEST, covered[c], -sizes[c], c))
        if best not in waiting:
            members = np.flatnonzero(clusters == best)
            order = members[np.argsort(-_typicality(points[members]), kind="stable")]
            waiting[best] = [int(position) for position in order[::-1] if position >= len(labelled)]
        chosen.append(waiting[best].pop())
        covered[best] += 1
        left[best] -= 1
    return indices[chosen]


def _sampled(labelled: Indices, free: Indices, count: int, seed: int) -> Indices:
    """Return the labelled images, then the others, or a random sample of many."""
    most = max(MOST_IMAGES, 2 * count)
    if len(free) > most:
        free = np.sort(np.random.default_rng(seed).choice(free, most, replace=False))
    return np.concatenate([labelled, free])


def _clusters(features: FloatArray, count: int, seed: int) -> NDArray[np.int32]:
    from sklearn.cluster import KMeans, MiniBatchKMeans

    method = KMeans if count <= 50 else MiniBatchKMeans
    with np.errstate(all="ignore"):
        labels: NDArray[np.int32] = method(count, random_state=seed, n_init=10).fit_predict(features)
    return labels


def _typicality(points: FloatArray) -> FloatArray:
    """Return the inverse of the mean distance of each point to its nearest neighbours [points]."""
    from sklearn.neighbors import NearestNeighbors

    if len(points) == 1:
        return np.ones(1, dtype=np.float32)
    neighbours = min(NEIGHBOURS, len(points) - 1)
    distances, _ = NearestNeighbors(n_neighbors=neighbours + 1).fit(points).kneighbors(points)
    typicality: FloatArray = (1 / (distances[:, 1:].mean(axis=1) + 1e-6)).astype(np.float32)
    return typicality


def _coverage(features: FloatArray, labelled: Indices, free: Indices, count: int, seed: int) -> Indices:
    from sklearn.neighbors import NearestNeighbors

    points = _sampled(labelled, free, count, seed)
    radius = _radius(features[points], max(2, min(len(labelled) + count, len(points) - 1)), seed)
    tree = NearestNeighbors(radius=radius).fit(features[points])
    graph = tree.radius_neighbors_graph(features[points], mode="connectivity").tocsr()
    first = len(labelled)
    covered = np.zeros(len(points), dtype=np.bool_)
    if first:
        covered[graph[:first].indices] = True
    available = np.ones(len(points), dtype=np.bool_)
    available[:first] = False
    # The graph is symmetric: what a row covers is what covers it.
    degrees = np.asarray(graph[:, ~covered].sum(axis=1)).ravel()
    chosen: list[int] = []
    while len(chosen) < count:
        best = int(np.argmax(np.where(available, degrees, -1)))
        chosen.append(best)
        available[best] = False
        fresh = [int(k) for k in graph[best].indices if not covered[k]]
        covered[fresh] = True
        for k in fresh:
            degrees[graph[k].indices] -= 1
    return points[chosen]


def _radius(points: FloatArray, clusters: int, seed: int) -> float:
    """Return the largest radius within which most neighbourhoods belong to one cluster."""
    from sklearn.neighbors import NearestNeighbors

    sample = points
    if len(points) > 5_000:
        sample = points[np.random.default_rng(seed).choice(len(points), 5_000, replace=False)]
    labels = _clusters(sample, min(clusters, 100, len(sample)), seed)
    neighbours = min(100, len(sample) - 1)
    distances, indices = NearestNeighbors(n_neighbors=neighbours + 1).fit(sample).kneighbors(sample)
    same = labels[indices] == labels[:, None]
    # Distance to the nearest point of another cluster: within it, the neighbourhood is pure.
    nearest = np.where(same.all(axis=1), distances[:, -1], distances[np.arange(len(sample)), same.argmin(axis=1)])
    return float(max(np.quantile(nearest, 1 - PURITY), 1e-6))
