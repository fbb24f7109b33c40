"""Tests of `partedvae.serving.batching.model` on real sessions: results in a batch are those of a single call."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
from partedvae.serving.errors import BundleError, OverloadedError
from partedvae.serving.onnx.model import OnnxModel
from tests.bundles import COLOURED, GREY
from tests.processes import PATIENCE
from tests.serving.gated_batches import eventually

OUTPUTS = encoder_outputs(["shape", "colour"])
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def onnx_model(two_models: Path) -> OnnxModel:
    return OnnxModel.load(load_bundle(two_models / "shapes" / "1"), threads=1)


@contextmanager
def batched(**policy: int) -> Iterator[BatchedModels]:
    models = BatchedModels(BatchPolicy(**policy))
    try:
        yield models
    finally:
        models.close()


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=12),
    max_batch_rows=st.integers(1, 64),
    sessions=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
async def test_split_exactly(
    onnx_model: OnnxModel, sizes: list[int], max_batch_rows: int, sessions: int, seed: int
) -> None:
    """Requests of any size, for any outputs, in batches of any size: each gets the rows that a single call returns."""
    random = np.random.default_rng(seed)
    requests = [
        (COLOURED.random_images(size, seed + k), list(random.permutation(OUTPUTS)[: random.integers(1, len(OUTPUTS))]))
        for k, size in enumerate(sizes)
    ]
    with batched(max_batch_rows=max_batch_rows, sessions=sessions) as models:
        results = await asyncio.gather(*(models.of(onnx_model).encode(*request) for request in requests))
    for (images, outputs), result in zip(requests, results, strict=True):
        assert list(result) == outputs
        for name, alone in onnx_model.encode(images, outputs).items():
            assert result[name].shape == alone.shape
            np.testing.assert_allclose(result[name], alone, rtol=0, atol=TOLERANCE)
            if name.endswith(".probs"):
                np.testing.assert_array_equal(result[name].argmax(axis=1), alone.argmax(axis=1))


async def test_two_hundred_at_once(onnx_model: OnnxModel) -> None:
    """Of two hundred concurrent single images some are cancelled: the others get their own results."""
    images = COLOURED.random_images(200)
    alone = onnx_model.encode(images, ["z_mean"])["z_mean"]
    with batched(max_batch_rows=16, sessions=2) as models:
        tasks = [asyncio.create_task(models.of(onnx_model).encode(images[k : k + 1], ["z_mean"])) for k in range(200)]
        await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for k, result in enumerate(results):
        if k % 3 == 0:
            assert isinstance(result, asyncio.CancelledError)
        else:
            assert isinstance(result, dict)
            np.testing.assert_allclose(result["z_mean"], alone[k : k + 1], rtol=0, atol=TOLERANCE)


async def test_decode(onnx_model: OnnxModel) -> None:
    """Each caller gets the images of its own latents, also from requests that were split."""
    random = np.random.default_rng(0)
    sizes = (1, 7, 100, 3)
    latents = [
        tuple(random.normal(size=(size, dim)).astype(np.float32) for dim in (COLOURED.u_dim, COLOURED.z_dim))
        for size in sizes
    ]
    with batched(max_batch_rows=16, sessions=2) as models:
        results = await asyncio.gather(*(models.of(onnx_model).decode(u, z) for u, z in latents))
    for (u, z), images in zip(latents, results, strict=True):
        assert images.dtype == np.uint8
        np.testing.assert_array_equal(images, onnx_model.decode(u, z))


async def test_score(onnx_model: OnnxModel) -> None:
    """Scores are batched like the outputs of the other graphs."""
    batches = [COLOURED.random_images(count, count) for count in (2, 30, 1)]
    with batched(max_batch_rows=16) as models:
        results = await asyncio.gather(*(models.of(onnx_model).score(b, ["negative_elbo"]) for b in batches))
    for images, scores in zip(batches, results, strict=True):
        alone = onnx_model.score(images, ["negative_elbo"])["negative_elbo"]
        np.testing.assert_allclose(scores["negative_elbo"], alone, rtol=1e-6)


async def test_scores_without_a_scorer(tmp_path: Path) -> None:
    """A bundle without a scorer fails before anything is queued."""
    onnx_model = OnnxModel.load(replace(GREY, has_scorer=False).write(tmp_path / "old"), threads=1)
    with batched() as models, pytest.raises(BundleError, match=r"export the run again"):
        await models.of(onnx_model).score(GREY.random_images(1), ["negative_elbo"])


async def test_an_old_version_is_freed(tmp_path: Path) -> None:
    """The batchers keep no model alive: it is freed with its last user, also after it was used."""
    onnx_model = OnnxModel.load(GREY.write(tmp_path / "tiny"), threads=1)
    gone = weakref.ref(onnx_model)
    with batched() as models:
        await models.of(onnx_model).encode(GREY.random_images(3), ["z_mean"])
        del onnx_model
        gc.collect()
        assert gone() is None


class HeldModel(OnnxModel):
    """A model whose encoder can be held."""

    entered: threading.Event
    gate: threading.Event

    def encode(self, images: ImageArray, outputs: Sequence[str]) -> dict[str, FloatArray]:
        self.entered.set()
        assert self.gate.wait(PATIENCE)
        return super().encode(images, outputs)


async def test_an_accepted_call_is_not_refused_half_way(two_models: Path) -> None:
    """With a full queue a new call is refused, while one that has completed a run waits, as streams do."""
    held = HeldModel.load(load_bundle(two_models / "shapes" / "1"), threads=1)
    assert isinstance(held, HeldModel)
    held.entered, held.gate = threading.Event(), threading.Event()
    held.gate.set()
    images = COLOURED.random_images(1)
    with batched(max_queue_rows=1) as models:
        accepted = models.of(held)
        await accepted.encode(images, ["z_mean"])
        held.entered.clear()
        held.gate.clear()
        running = asyncio.create_task(models.of(held).encode(images, ["z_mean"]))
        await eventually(held.entered.is_set)
        callers = [models.of(held), accepted, models.of(held, blocking=True)]
        waiting = [asyncio.create_task(caller.encode(images, ["z_mean"])) for caller in callers]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await models.of(held).encode(images, ["z_mean"])
        assert not any(task.done() for task in waiting)
        held.gate.set()
        await asyncio.gather(running, *waiting)
