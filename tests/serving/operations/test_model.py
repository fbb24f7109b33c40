"""Tests of `partedvae.serving.operations.model`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from partedvae.serving.bundle import load_bundle
from partedvae.serving.errors import InvalidInputError
from partedvae.serving.onnx.model import OnnxModel
from partedvae.serving.operations.features import features
from partedvae.serving.operations.model import DirectModel, run_sync
from tests.bundles import GREY


@pytest.fixture(scope="module")
def model(tiny_models: Path) -> DirectModel:
    return DirectModel(OnnxModel.load(load_bundle(tiny_models / "tiny" / "1")))


def test_an_operation_runs_without_an_event_loop(model: DirectModel) -> None:
    """Its result is returned, and what it raises is raised."""
    images = GREY.random_images(3)
    result = run_sync(features(model, images, ["z_mean"]))
    assert result.z is not None
    np.testing.assert_allclose(result.z, GREY.encode(images)["z_mean"], atol=1e-5)
    with pytest.raises(InvalidInputError, match="include is empty"):
        run_sync(features(model, images, []))


def test_an_operation_that_suspends_is_an_error() -> None:
    """A model that waits for an event loop is not run half-way."""
    with pytest.raises(RuntimeError, match="the operation waits for an event loop"):
        run_sync(asyncio.sleep(0))
