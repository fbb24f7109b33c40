"""A user's own folder of RGB images with two factors and few labels: train, evaluate, export, serve."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from partedvae import Client
from partedvae.training.evaluation.metrics import probes
from tests.e2e.commands import partedvae_here, small_networks
from tests.processes import running_server
from tests.training.toys import CORNERS, SHADES, toy_split

pytestmark = pytest.mark.e2e

IMAGES, LABELLED = 60, 24


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 40x40 RGB files, and a labels.csv with both, one or none of the factors of each image."""
    folder = tmp_path_factory.mktemp("own") / "photos"
    (folder / "imgs").mkdir(parents=True)
    split = toy_split(IMAGES, 5)
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "corner", "shade"])
        for k in range(IMAGES):
            grey = np.asarray(split.images)[k, ..., 0]
            name = f"imgs/{k:03d}.png"
            Image.fromarray(grey).convert("RGB").resize((40, 40)).save(folder / name)
            corner, shade = CORNERS[split.labels[k, 0]], SHADES[split.labels[k, 1]]
            if k < LABELLED:
                table.writerow([name, corner, shade if k % 3 else ""])
    return folder


def test_own_images_are_served_with_each_factor_by_name(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, models = tmp_path / "run", tmp_path / "models"
    options = ("--epochs", 1, "--set", "epoch_images=640", *small_networks(3), "--no-measure", "--output", run)
    output = partedvae_here("train", f"folder:{photos}", *options)
    assert "next: partedvae export" in output
    monkeypatch.setattr(probes, "SMALL_ITERATIONS", 20)
    report = json.loads(partedvae_here("evaluate", run, "--json"))
    assert set(report["factors"]) == {"corner", "shade"}
    corner = report["factors"]["corner"]
    assert corner["interval"][0] < corner["accuracy"] <= corner["interval"][1]
    assert f"test accuracy corner {corner['correct']} of {corner['labelled']} (" in output
    assert report["probes"]["corner"]["rows"] > corner["labelled"]
    assert report["no_oracle"].startswith("decoded images are not judged: corner has ")
    config = json.loads((run / "config.json").read_text())
    assert (config["labels"], config["priors"]) == (
        len(json.loads((run / "provenance.json").read_text())["labelled_images"]),
        "estimated",
    )
    partedvae_here("export", run, models / "photos")
    with running_server(models) as server, Client(server.address) as client:
        features = client.features(sorted((photos / "imgs").iterdir()))
    assert features["corner"].probs is not None
    assert features["corner"].class_names == tuple(sorted(CORNERS))
    assert features["shade"].class_names == tuple(sorted(SHADES))
    assert features["shade"].probs is not None
    assert features["shade"].probs.shape == (IMAGES, 2)
    assert features.u.shape == (IMAGES, sum(factor["u_dim"] for factor in config["model"]["factors"]))
