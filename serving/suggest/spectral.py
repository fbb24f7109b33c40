"""Spectral embedding: features in which clusters of any shape are compact (Ng, Jordan and Weiss 2002).

Images of one class form a connected region of the features, seldom a ball: k-means on the features splits frequent
shapes of one class and joins rare classes, which then get no label.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from partedvae.results import FloatArray

NEIGHBOURS = 15
"""Nearest neighbours to which each image is connected."""
SCALE_NEIGHBOUR = 7
"""The distance to this neighbour is the scale of an image's distances (Zelnik-Manor and Perona 2004)."""
TOLERANCE = 1e-3
"""Relative accuracy of the eigenvalues."""


def spectral_embedding(features: FloatArray, dimensions: int) -> FloatArray:
    """Return the leading eigenvectors of the graph of nearest neighbours, with rows of length one [images, dimensions].

    Args:
        features: features of the images [images, dims]; of at least `NEIGHBOURS` + 2 images.
        dimensions: number of eigenvectors, fewer than images.
    """
    from scipy.sparse import csr_matrix, diags
    from scipy.sparse.linalg import eigsh
    from sklearn.neighbors import NearestNeighbors

    count = len(features)
    distances, indices = NearestNeighbors(n_neighbors=NEIGHBOURS + 1).fit(features).kneighbors(features)
    scale = np.maximum(distances[:, SCALE_NEIGHBOUR], np.finfo(np.float32).tiny)
    weights = np.exp(-np.square(distances) / (scale[:, None] * scale[indices]))
    rows = np.repeat(np.arange(count), NEIGHBOURS + 1)
    graph = csr_matrix((weights.ravel(), (rows, indices.ravel())), shape=(count, count))
    graph = graph.maximum(graph.T)
    normaliser = diags(1 / np.sqrt(np.asarray(graph.sum(axis=1)).ravel()))
    # A fixed first vector: the result does not depend on a random state.
    _, vectors = eigsh(normaliser @ graph @ normaliser, dimensions, which="LA", tol=TOLERANCE, v0=np.ones(count))
    embedding: NDArray[np.float64] = normaliser @ vectors
    lengths = np.linalg.norm(embedding, axis=1, keepdims=True)
    rows_of_length_one: FloatArray = (embedding / np.maximum(lengths, np.finfo(np.float64).tiny)).astype(np.float32)
    return rows_of_length_one
