"""Tests of `partedvae.serving.batching.model` on real sessions: what a caller gets in a batch is what it gets alone."""

from __future__ import annotations

import asyncio
import gc
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partedvae.results import FloatArray, ImageArray
from partedvae.serving.batching.model import BatchedModels
from partedvae.serving.batching.scheduler import BatchPolicy
from partedvae.serving.bundle import encoder_outputs, load_bundle
from partedvae.serving.errors import BundleError
from partedvae.serving.onnx.model import OnnxModel
from tests.bundles import COLOURED, GREY

OUTPUTS = encoder_outputs(["shape", "colour"])
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def runtime(two_models: Path) -> OnnxModel:
    return OnnxModel.load(load_bundle(two_models / "shapes" / "1"), threads=1)


def encode_together(
    runtime: OnnxModel, policy: BatchPolicy, batches: list[tuple[ImageArray, list[str]]]
) -> list[dict[str, FloatArray]]:
    """Encode at the same time."""

    async def scenario() -> list[dict[str, FloatArray]]:
        models = BatchedModels(policy)
        try:
            model = models.of(runtime)
            return await asyncio.gather(*(model.encode(images, outputs) for images, outputs in batches))
        finally:
            models.close()

    return asyncio.run(scenario())


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=12),
    max_batch_rows=st.integers(1, 64),
    sessions=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_split_exactly(runtime: OnnxModel, sizes: list[int], max_batch_rows: int, sessions: int, seed: int) -> None:
    """Requests of any sizes, for any outputs, in batches of any size: each gets its own rows, as a lone call would."""
    random = np.random.default_rng(seed)
    requests = [
        (COLOURED.random_images(size, seed + k), list(random.permutation(OUTPUTS)[: random.integers(1, len(OUTPUTS))]))
        for k, size in enumerate(sizes)
    ]
    policy = BatchPolicy(max_batch_rows=max_batch_rows, sessions=sessions)
    for (images, outputs), result in zip(requests, encode_together(runtime, policy, requests), strict=True):
        assert list(result) == outputs
        for name, alone in runtime.encode(images, outputs).items():
            assert result[name].shape == alone.shape
            np.testing.assert_allclose(result[name], alone, rtol=0, atol=TOLERANCE)
            if name.endswith(".probs"):
                np.testing.assert_array_equal(result[name].argmax(axis=1), alone.argmax(axis=1))


async def test_two_hundred_at_once(runtime: OnnxModel) -> None:
    """A crowd of single images, some of which give up: the others get their own."""
    images = COLOURED.random_images(200)
    alone = runtime.encode(images, ["z_mean"])["z_mean"]
    models = BatchedModels(BatchPolicy(max_batch_rows=16, sessions=2))
    model = models.of(runtime)
    tasks = [asyncio.create_task(model.encode(images[k : k + 1], ["z_mean"])) for k in range(200)]
    await asyncio.sleep(0)
    for task in tasks[::3]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    models.close()
    for k, result in enumerate(results):
        if k % 3 == 0:
            assert isinstance(result, asyncio.CancelledError)
        else:
            assert isinstance(result, dict)
            np.testing.assert_allclose(result["z_mean"], alone[k : k + 1], rtol=0, atol=TOLERANCE)


def test_decode(runtime: OnnxModel) -> None:
    """Images of latents come back to those who sent them, from divided requests too."""
    random = np.random.default_rng(0)
    sizes = (1, 7, 100, 3)
    latents = [
        tuple(random.normal(size=(size, dim)).astype(np.float32) for dim in (COLOURED.u_dim, COLOURED.z_dim))
        for size in sizes
    ]

    async def scenario() -> list[ImageArray]:
        models = BatchedModels(BatchPolicy(max_batch_rows=16, sessions=2))
        try:
            return await asyncio.gather(*(models.of(runtime).decode(u, z) for u, z in latents))
        finally:
            models.close()

    for (u, z), images in zip(latents, asyncio.run(scenario()), strict=True):
        assert images.dtype == np.uint8
        np.testing.assert_array_equal(images, runtime.decode(u, z))


def test_score(runtime: OnnxModel) -> None:
    """Scores are batched like the other graphs."""
    batches = [COLOURED.random_images(count, count) for count in (2, 30, 1)]

    async def scenario() -> list[dict[str, FloatArray]]:
        models = BatchedModels(BatchPolicy(max_batch_rows=16))
        try:
            return await asyncio.gather(*(models.of(runtime).score(b, ["negative_elbo"]) for b in batches))
        finally:
            models.close()

    for images, scores in zip(batches, asyncio.run(scenario()), strict=True):
        alone = runtime.score(images, ["negative_elbo"])["negative_elbo"]
        np.testing.assert_allclose(scores["negative_elbo"], alone, rtol=1e-6)


def test_scores_without_a_scorer(tmp_path: Path) -> None:
    """A bundle without a scorer refuses before anything is queued."""
    runtime = OnnxModel.load(replace(GREY, has_scorer=False).write(tmp_path / "old"), threads=1)

    async def scenario() -> None:
        models = BatchedModels(BatchPolicy())
        try:
            await models.of(runtime).score(GREY.random_images(1), ["negative_elbo"])
        finally:
            models.close()

    with pytest.raises(BundleError, match=r"export the run again"):
        asyncio.run(scenario())


def test_an_old_version_is_let_go(tmp_path: Path) -> None:
    """The batchers keep no runtime: it goes when the last who holds it does, with work done in between."""
    runtime = OnnxModel.load(GREY.write(tmp_path / "tiny"), threads=1)
    gone = weakref.ref(runtime)

    async def scenario(runtime: OnnxModel) -> BatchedModels:
        models = BatchedModels(BatchPolicy())
        await models.of(runtime).encode(GREY.random_images(3), ["z_mean"])
        return models

    models = asyncio.run(scenario(runtime))
    del runtime
    gc.collect()
    assert gone() is None
    models.close()
