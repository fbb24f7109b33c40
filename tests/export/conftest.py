"""A small run on a part of MNIST, shared by the tests of export."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from partedvae.training.cli.train import train
from partedvae.training.data.dataset import ImageDataset


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory, mnist: ImageDataset, data_dir: Path) -> Path:
    """Return a run of one epoch on 640 images; tests must not modify it."""
    path = tmp_path_factory.mktemp("runs") / "small"
    arguments = ["mnist", "--epochs", "1", "--set", "train_images=640", "--no-measure", "--output", str(path)]
    arguments += ["--data", str(data_dir)]
    result = CliRunner().invoke(train, arguments)
    assert result.exit_code == 0, result.output
    return path
