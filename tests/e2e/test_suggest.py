"""Images of a folder without labels: suggest some, label them, train from these labels alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from partedvae.common.labels_file import LabelsFile
from partedvae.serving import load
from tests.e2e.commands import partedvae
from tests.training.toys import CORNERS, toy_split

pytestmark = pytest.mark.e2e

IMAGES, COUNT = 60, 8


@pytest.mark.exhaustive
def test_a_folder_without_labels_is_ranked_labelled_and_trained_on(tmp_path: Path) -> None:
    """Without a model, one is trained without labels, once, and found again."""
    folder, kept, chosen = tmp_path / "photos", tmp_path / "kept", tmp_path / "next.txt"
    folder.mkdir()
    split = toy_split(IMAGES, 5)
    names = [f"{number:03}.png" for number in range(IMAGES)]
    for name, pixels in zip(names, np.asarray(split.images)[..., 0], strict=True):
        Image.fromarray(pixels).resize((32, 32)).save(folder / name)

    options = ["--cache", kept, "--epochs", 1]
    first = json.loads(partedvae("suggest", folder, "--count", COUNT, *options, "--output", chosen, "--json"))
    assert (first["strategy"], first["ranked"], first["labelled"]) == ("typical", IMAGES, 0)
    assert first["features_run"] == str(kept / "features")
    assert chosen.read_text().split() == first["images"]
    config = json.loads((kept / "features/config.json").read_text())
    assert (config["dataset"], config["recipe"], config["epochs"]) == (f"folder:{folder}", "features", 1)
    assert (config["labels"], config["objective"]["gamma_contrast"]) == (0, 1000)
    assert json.loads((kept / "models/features/1/manifest.json").read_text())["training"]["dataset"] == "folder:photos"

    labels = LabelsFile(folder, names)
    for name in first["images"]:
        labels.write(name, "corner", CORNERS[split.labels[names.index(name), 0]])
    again = json.loads(partedvae("suggest", folder, "--count", IMAGES, *options, "--json"))
    assert again["labelled"] == COUNT
    assert set(again["images"]) == set(names) - set(first["images"])
    assert sorted(path.name for path in (kept / "models/features").iterdir()) == ["1"], "it is trained once"

    options = ["--features", first["features_run"], "--epochs", 1, "--set", "epoch_images=640"]
    output = partedvae("train", f"folder:{folder}", *options, "--output", tmp_path / "run")
    assert "labels" in output
    assert json.loads((tmp_path / "run/summary.json").read_text())["labels"] <= COUNT
    counts = json.loads((tmp_path / "run/provenance.json").read_text())["group_label_counts"]
    assert counts["corner"] > COUNT
    partedvae("export", tmp_path / "run", tmp_path / "models/photos")
    assert dict(load(tmp_path / "models/photos").manifest.training.group_labels) == counts
