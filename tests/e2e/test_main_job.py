"""The commands on a part of the real MNIST: train, evaluate, export, serve, call, extract."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from playwright.sync_api import FilePayload, expect

from partedvae import Client
from partedvae.training.data.dataset import ImageDataset
from partedvae.training.evaluation import oracle
from partedvae.training.evaluation.metrics import probes
from tests.e2e.commands import partedvae, partedvae_here
from tests.processes import ServerProcess, running_server
from tests.serving.explore.explorer import DESKTOP, checked_page, png, running_browser, running_explorer

pytestmark = pytest.mark.e2e

SMALL_NETWORKS = ("--set", "model.encoder_channels=16,16,32", "--set", "model.decoder_channels=32,16,16")
"""A quarter of the computation of the recipe's."""
TEST_IMAGES = 2000
"""How many of the 10,000 test images are sent to the server."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, mnist: ImageDataset, data_dir: Path) -> Path:
    """Return a folder with a trained run, its evaluation and its bundle."""
    path = tmp_path_factory.mktemp("main-job")
    run = path / "run"
    settings = ("--epochs", 1, "--set", "train_images=19200", "--set", "batch_size=64", *SMALL_NETWORKS)
    # `evaluate` measures the run, and writes its measures into the summary.
    partedvae("train", "mnist", *settings, "--no-measure", "--output", run, "--data", data_dir)
    # A copy, which gets another oracle than the data of the user.
    shutil.copytree(data_dir / "mnist", path / "data" / "mnist", copy_function=os.symlink)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(oracle, "TRAIN_IMAGES", 12_000)
        patched.setattr(oracle, "PRESENTED", 12_000)
        patched.setattr(probes, "UPDATES", 500)
        arguments = (run, "--json", "--predictions", path / "predictions.npz", "--data", path / "data")
        report = partedvae_here("evaluate", *arguments)
    (path / "report.json").write_text(report)
    partedvae_here("export", run, path / "models" / "mnist", "--data", data_dir)
    np.save(path / "images.npy", mnist.test.images[torch.arange(TEST_IMAGES)][..., 0].numpy())
    return path


@pytest.fixture(scope="module")
def server(folder: Path) -> object:
    """Serve the bundle."""
    with running_server(folder / "models") as process:
        yield process


def test_evaluation_export_and_summary_agree_on_the_accuracy(folder: Path) -> None:
    report = json.loads((folder / "report.json").read_text())
    summary = json.loads((folder / "run" / "summary.json").read_text())
    manifest = json.loads((folder / "models" / "mnist" / "1" / "manifest.json").read_text())
    accuracy = report["factors"]["digit"]["accuracy"]
    assert accuracy == summary["accuracy"]["digit"] == manifest["scores"]["accuracy/digit"]
    assert accuracy > 0.6
    assert report["generation"]["digit"]["oracle"] > 0.95
    assert report["generation"]["digit"]["mean"] == summary["measures"]["generation/digit"] > 0.3
    assert report["probes"]["digit"]["u"]["mlp"] == summary["measures"]["probe_u_mlp/digit"] > 0.6
    assert manifest["measures"] == summary["measures"]
    assert manifest.get("warnings", []) == summary["warnings"] == report["warnings"]
    assert report["images"] == 10_000
    assert sum(map(sum, report["factors"]["digit"]["confusion"])) == 10_000


def test_the_server_reports_the_measures_and_warnings(folder: Path, server: ServerProcess) -> None:
    summary = json.loads((folder / "run" / "summary.json").read_text())
    with Client(server.address) as client:
        details = client.model_info()
    assert details.measures == summary["measures"]
    assert details.warnings == summary["warnings"]


def test_served_classes_equal_those_of_pytorch(folder: Path, server: ServerProcess) -> None:
    images = np.load(folder / "images.npy")
    with np.load(folder / "predictions.npz") as predictions:
        offline = predictions["digit"][:TEST_IMAGES]
    with Client(server.address) as client:
        features = client.features(images, include=["probs", "u_mean", "z_mean"])
    assert features.classes.astype(int).tolist() == offline.tolist()
    assert features.u.shape == (TEST_IMAGES, 10)
    assert features.z is not None
    assert features.z.shape == (TEST_IMAGES, 6)
    # The features of different images differ; an encoder that ignores its input would fail here.
    assert features.u.std(axis=0).max() > 0.1


def test_extraction_in_process_and_from_a_server_equals_the_client(folder: Path, server: ServerProcess) -> None:
    model = folder / "models" / "mnist"
    partedvae_here("extract", folder / "images.npy", "--output", folder / "a.npz", "--model", model)
    partedvae("extract", folder / "images.npy", "--output", folder / "b.npz", "--server", server.address)
    with Client(server.address) as client:
        features = client.features(np.load(folder / "images.npy"))
    for name in ("a.npz", "b.npz"):
        with np.load(folder / name) as rows:
            assert rows["digit"].tolist() == features.classes.tolist()
            np.testing.assert_allclose(rows["digit_u"], features.u, atol=1e-5)


def test_digits_generated_by_class_are_classified_as_that_class(server: ServerProcess) -> None:
    """Chance is 0.1; a few seconds of training reach more than 0.3."""
    with Client(server.address) as client:
        right = [
            (client.classify(client.generate(50, classes=str(digit), seed=1).images).classes == str(digit)).mean()
            for digit in range(10)
        ]
        assert np.mean(right) > 0.3


def test_reconstructions_are_closer_to_their_image_than_to_another(folder: Path, server: ServerProcess) -> None:
    images = np.load(folder / "images.npy")[:200]
    with Client(server.address) as client:
        reconstructed = client.reconstruct(images)[..., 0].astype(float)
    own = np.abs(reconstructed - images).mean()
    other = np.abs(reconstructed - np.roll(images, 1, axis=0)).mean()
    assert own < other


def test_a_drawn_digit_has_its_class_on_the_web_page(folder: Path, server: ServerProcess) -> None:
    """A one, drawn with the mouse, and a test image that is chosen as a file, through the server."""
    image = np.load(folder / "images.npy")[0]
    with Client(server.address) as client:
        expected = client.classify(image).classes[0]
    with (
        running_browser() as browser,
        running_explorer("--server", server.address) as explorer,
        checked_page(browser, DESKTOP) as page,
    ):
        page.goto(f"{explorer.url}/look")
        best = page.locator(".pv-bars__row--best .pv-bars__name")
        payload: FilePayload = {"name": "test.png", "mimeType": "image/png", "buffer": png(image[..., np.newaxis])}
        page.locator("input[type=file]").set_input_files(payload)
        expect(best).to_have_text(str(expected))

        page.get_by_role("button", name="Clear the drawing").click()
        box = page.locator("canvas.pv-pad__canvas").bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] * 0.52, box["y"] + box["height"] * 0.22)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.48, box["y"] + box["height"] * 0.78, steps=10)
        page.mouse.up()
        expect(best).to_have_text("1")
