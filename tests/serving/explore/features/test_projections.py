"""Projections to two dimensions, and the processes that compute them."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from numpy.typing import NDArray

from partedvae.results import FloatArray
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.explore.features.jobs import MapKey, Projection, Projections
from partedvae.serving.explore.features.projections import fitted, pca, sample, scattered, unavailable
from partedvae.serving.explore.features.spaces import Space
from tests.processes import PATIENCE


def clusters(count: int, seed: int = 0) -> tuple[FloatArray, NDArray[np.int64]]:
    """Return points in three clusters of five dimensions, and the cluster of each."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count)
    centres = 10 * np.eye(3, 5)
    return (centres[labels] + random.normal(size=(count, 5))).astype(np.float32), labels


def projections(count: int) -> Projections:
    features, _ = clusters(count)
    return Projections({"u": Space(name="u", title="u", features=features)})


async def ended(projection: Projection) -> Projection:
    async with asyncio.timeout(2 * PATIENCE):
        while projection.state in ("queued", "running"):
            await asyncio.sleep(0.05)
    return projection


def test_pca_finds_the_directions_of_the_largest_variance() -> None:
    random = np.random.default_rng(0)
    features = (random.normal(size=(500, 4)) * [1, 5, 0.1, 3] + 7).astype(np.float32)
    positions, share = pca(features)

    centred = features - features.mean(axis=0)
    singular = np.linalg.svd(centred, compute_uv=False)
    np.testing.assert_allclose(np.linalg.norm(positions, axis=0), singular[:2], rtol=1e-4)
    assert share == pytest.approx((singular[:2] ** 2).sum() / (singular**2).sum())
    assert np.corrcoef(positions[:, 0], features[:, 1])[0, 1] > 0.99


def test_pca_of_one_dimension_and_of_equal_points() -> None:
    line = np.arange(100, dtype=np.float32)[:, np.newaxis]
    positions, share = pca(line)
    np.testing.assert_allclose(positions[:, 0], line[:, 0] - 49.5)
    assert positions[:, 1].std() > 1
    assert share == 1.0
    same, share = pca(np.ones((5, 3), dtype=np.float32))
    assert (np.abs(same).max(), share) == (0.0, 1.0)
    assert np.isfinite(fitted(same)).all()


def test_samples_are_the_same_each_time_and_others_have_no_position() -> None:
    chosen = sample(1000, 50)
    assert len(np.unique(chosen)) == 50
    assert chosen.tolist() == sample(1000, 50).tolist()
    everywhere = scattered(np.arange(100, dtype=np.float32).reshape(50, 2), chosen, 1000)
    assert np.isnan(everywhere).any(axis=1).sum() == 950
    within = fitted(everywhere)
    assert np.nanmin(within) == -1
    assert np.nanmax(within) == 1
    assert np.isnan(within[:, 0]).tolist() == np.isnan(everywhere[:, 0]).tolist()


@pytest.mark.exhaustive
async def test_tsne_keeps_clusters_together() -> None:
    """In a process of its own, with progress; another visitor gets the same."""
    features, labels = clusters(60)
    shared = Projections({"u": Space(name="u", title="u", features=features)})
    projection = await shared.ask(shared.key("u", "tsne", 0))
    assert await shared.ask(shared.key("u", "tsne", 500)) is projection
    await ended(projection)

    assert (projection.state, projection.error, projection.done) == ("done", "", 1.0)
    assert projection.positions is not None
    distances = np.linalg.norm(projection.positions[:, np.newaxis] - projection.positions, axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(axis=1)] == labels).all()
    for _ in range(2):
        shared.release(projection)
    assert shared.find(projection.key) is projection


async def test_a_computation_ends_when_nobody_waits_for_it() -> None:
    shared = projections(3000)
    key = shared.key("u", "tsne", 2000)
    assert key == MapKey(space="u", method="tsne", points=2000)
    first, second = await shared.ask(key), await shared.ask(key)
    async with asyncio.timeout(PATIENCE):
        while first.started is None:
            await asyncio.sleep(0.01)
    shared.release(first)
    assert shared.find(key) is second
    shared.release(second)

    assert shared.find(key) is None
    assert first.task is not None
    with pytest.raises(asyncio.CancelledError):
        await first.task
    assert (await shared.ask(shared.key("u", "pca", 0))).state == "done"


async def test_one_computation_at_a_time() -> None:
    shared = projections(3000)
    first, second = [await shared.ask(shared.key("u", "tsne", points)) for points in (2000, 1000)]
    async with asyncio.timeout(PATIENCE):
        while first.started is None:
            await asyncio.sleep(0.01)
    assert (first.state, second.state) == ("running", "queued")
    shared.release(first)
    async with asyncio.timeout(PATIENCE):
        while second.started is None:
            await asyncio.sleep(0.01)
    await shared.close()


async def test_a_process_that_fails_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the last line of its error; asking again computes it again."""
    shared = projections(100)
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr("sys.executable", "/bin/false")
    key = shared.key("u", "tsne", 0)
    failed = await ended(await shared.ask(key))
    assert (failed.state, failed.error) == ("failed", "t-SNE failed: exit code 1")
    monkeypatch.undo()
    again = await shared.ask(key)
    assert again is not failed
    await shared.close()


@pytest.mark.parametrize(
    ("space", "method", "points", "message"),
    [
        ("x", "pca", 0, "space 'x' is none of u"),
        ("u", "lda", 0, "method 'lda' is none of pca, tsne, umap"),
        ("u", "tsne", 3, "points is 3; it must be at least 10, or 0 for all"),
        ("u", "tsne", -1, "points is -1; it must be at least 10, or 0 for all"),
    ],
)
def test_projections_that_do_not_exist(space: str, method: str, points: int, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        projections(100).key(space, method, points)


def test_tsne_of_few_points_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="t-SNE needs at least 10 points, and there are 5; use PCA"):
        projections(5).key("u", "tsne", 0)


def test_umap_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("partedvae.serving.explore.features.projections.find_spec", lambda name: None)
    assert unavailable("umap") == "UMAP is not installed: pip install umap-learn"
    assert unavailable("pca") is None
    with pytest.raises(InvalidInputError, match="pip install umap-learn"):
        projections(100).key("u", "umap", 0)
