"""A model is served images of another shape as it was trained on them, for each fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from partedvae import Client
from partedvae.common.fit import FITS, Fit
from partedvae.training.evaluation.evaluation import posteriors
from partedvae.training.runs.data import load_run_dataset
from partedvae.training.runs.directory import RunDirectory
from tests.e2e.commands import partedvae, small_networks
from tests.processes import running_server

pytestmark = pytest.mark.e2e

SIZES = [(640, 360), (360, 640), (100, 50), (64, 64)]
"""Width and height. The client shrinks the first two before it sends them; the server resizes the third."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of images that are mostly not square; four of them, one of each size, are test images."""
    folder = tmp_path_factory.mktemp("own") / "photos"
    folder.mkdir()
    random = np.random.Generator(np.random.PCG64(0))
    rows = ["file,colour,split"]
    for k in range(16):
        width, height = SIZES[k % len(SIZES)]
        pixels = random.integers(20, 120, (height, width, 3), dtype=np.uint8)
        pixels[..., k // 4 % 2] += 100
        Image.fromarray(pixels).save(folder / f"{k:02}.png")
        rows.append(f"{k:02}.png,{('red', 'green')[k // 4 % 2]},{'test' if k < 4 else 'train'}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder


@pytest.mark.exhaustive
@pytest.mark.parametrize("fit", FITS)
def test_the_server_computes_what_the_model_computes_of_its_test_images(photos: Path, tmp_path: Path, fit: Fit) -> None:
    run, models = RunDirectory(tmp_path / "run"), tmp_path / "models"
    options = ["--epochs", 1, "--set", "epoch_images=64", *small_networks(4), "--no-measure", "--output", run.path]
    partedvae("train", f"folder:{photos}", "--fit", fit, *options)
    assert json.loads(run.config_file.read_text())["fit"] == fit
    assert f"fit of images of another shape    {fit}" in partedvae("describe", run.path)
    partedvae("export", run.path, models / "photos")

    model, _ = run.load_model(torch.device("cpu"))
    test = load_run_dataset(run, Path("data")).test.images
    ((_, posterior),) = posteriors(model, test, run.load_config())
    expected = posterior.u_mean.numpy()
    names = [photos / f"{k:02}.png" for k in range(4)]
    with running_server(models) as server, Client(server.address) as client:
        assert client.model_info().fit == fit
        np.testing.assert_allclose(client.features(names).u, expected, rtol=1e-3, atol=1e-4)
        arrays = [np.asarray(Image.open(name)) for name in names]
        np.testing.assert_allclose(client.features(arrays).u, expected, rtol=1e-3, atol=1e-4)
        # The same pixels, and not only similar features: what was trained on is sent as it is.
        pixels = test[torch.arange(4)].numpy()
        np.testing.assert_array_equal(client.features(names).u, client.features(pixels).u)
