"""Spectral embedding: features in which clusters of any shape are compact (Ng, Jordan and Weiss 2002).

Images of one class form a connected region of the features, seldom a ball: k-means on the features splits frequent
shapes of one class and joins rare classes. `partedvae suggest` and `partedvae train --features` group images by it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

FloatArray = NDArray[np.float32]

MOST_IMAGES = 20_000
"""Images that are embedded at once, drawn at random from more; the time grows with the square."""
FEWEST_IMAGES = 200
"""Of fewer images, the graph is not more than the distances are."""
FURTHER_DIMENSIONS = 6
"""Dimensions beyond one per cluster: some of the first ones are of parts of a class."""
MOST_DIMENSIONS = 32
"""Most dimensions."""
NEIGHBOURS = 15
"""Nearest neighbours to which each image is connected."""
SCALE_NEIGHBOUR = 7
"""The distance to this neighbour is the scale of an image's distances (Zelnik-Manor and Perona 2004)."""
TOLERANCE = 1e-6
"""Relative accuracy of the eigenvalues; with 1e-3, some of nearly equal ones are not found."""
FEWEST_SPARSE = 500
"""Fewest images of a connected component whose eigenvectors are computed by iteration."""
DIFFUSION_TIME = 20
"""Power of the eigenvalues that the eigenvectors are multiplied by: those within a cluster have smaller eigenvalues."""


def embedded(points: FloatArray, clusters: int) -> FloatArray:
    """Return features in which the clusters of many images are compact [images, dims]; of a few, their own features.

    Args:
        points: features [images, dims].
        clusters: number of clusters that are to be found.
    """
    # Equal images would be the neighbours of each other alone, and no path of the graph would lead from them to others.
    different, positions = np.unique(points, axis=0, return_inverse=True)
    if len(different) < FEWEST_IMAGES:
        return points
    dimensions = min(clusters + FURTHER_DIMENSIONS, MOST_DIMENSIONS)
    return spectral_embedding(different, dimensions)[positions.reshape(-1)]


def spectral_embedding(features: FloatArray, dimensions: int) -> FloatArray:
    """Return the leading eigenvectors of the graph of nearest neighbours, with rows of length one [images, dimensions].

    Connected components have eigenvectors of their own, with the eigenvalue 1, as an iteration finds not all
    eigenvectors of one eigenvalue. With more components than dimensions, the images of the smallest ones are at zero.

    Args:
        features: features of the images [images, dims], which differ; of at least `NEIGHBOURS` + 2 images.
        dimensions: number of eigenvectors, fewer than images.
    """
    from scipy.sparse import csr_matrix, diags
    from scipy.sparse.csgraph import connected_components
    from sklearn.neighbors import NearestNeighbors

    count = len(features)
    distances, indices = NearestNeighbors(n_neighbors=NEIGHBOURS + 1).fit(features).kneighbors(features)
    scale = np.maximum(distances[:, SCALE_NEIGHBOUR], np.finfo(np.float32).tiny)
    weights = np.exp(-np.square(distances) / (scale[:, None] * scale[indices]))
    rows = np.repeat(np.arange(count), NEIGHBOURS + 1)
    graph = csr_matrix((weights.ravel(), (rows, indices.ravel())), shape=(count, count))
    graph = graph.maximum(graph.T)
    normaliser = diags(1 / np.sqrt(np.asarray(graph.sum(axis=1)).ravel()))
    normalised = (normaliser @ graph @ normaliser).tocsr()

    components, component = connected_components(graph, directed=False)
    leading: list[tuple[float, NDArray[np.intp], NDArray[np.float64]]] = []
    for number in np.argsort(-np.bincount(component), kind="stable").tolist()[:dimensions]:
        members = np.flatnonzero(component == number)
        block = normalised if components == 1 else normalised[members][:, members]
        leading += [(value, members, vector) for value, vector in _leading_eigenvectors(block, dimensions)]
    leading.sort(key=lambda one: -one[0])

    embedding = np.zeros((count, dimensions))
    for column, (value, members, vector) in enumerate(leading[:dimensions]):
        embedding[members, column] = value**DIFFUSION_TIME * vector
    embedding = normaliser @ embedding
    lengths = np.linalg.norm(embedding, axis=1, keepdims=True)
    rows_of_length_one: FloatArray = (embedding / np.maximum(lengths, np.finfo(np.float64).tiny)).astype(np.float32)
    return rows_of_length_one


def _leading_eigenvectors(matrix: csr_matrix, count: int) -> list[tuple[float, NDArray[np.float64]]]:
    """Return the largest eigenvalues of a symmetric matrix, the largest first, 0 to 1, and their eigenvectors."""
    from scipy.sparse.linalg import eigsh

    size = matrix.shape[0]
    if size < max(FEWEST_SPARSE, 2 * count):
        values, vectors = np.linalg.eigh(matrix.toarray())
    else:
        # A fixed first vector: the result does not depend on a random state. It is not symmetric, as images can be.
        first = np.random.default_rng(0).normal(size=size)
        values, vectors = eigsh(matrix, count, which="LA", tol=TOLERANCE, v0=first)
    # Of a component, the largest is 1 but for rounding: components with equal eigenvalues keep their order.
    return [(round(max(float(values[k]), 0), 9), vectors[:, k]) for k in np.argsort(-values, kind="stable")[:count]]
