"""A program for torchrun: a whole run on the toy data, drawn on first use; FOLDER/log records which process drew it.

Usage: parallel_run.py FOLDER
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from unittest.mock import patch

import torch

from partedvae.common.atomic_write import atomic_write
from partedvae.common.fit import Fit
from partedvae.training.data.dataset import ImageDataset, LabelUse
from partedvae.training.engine.run import train_run
from partedvae.training.runs.directory import RunDirectory
from tests.training.toys import tiny_config, toy_dataset

SECONDS_TO_DRAW = 1.0
"""Longer than any delay between the processes."""


def load(name: str, folder: Path, fit: Fit, labels: LabelUse) -> ImageDataset:
    """Replace the registry's `load_dataset`: draw missing data slowly, and log it."""
    drawn = folder / "drawn"
    if not drawn.exists():
        log(folder, "drew")
        time.sleep(SECONDS_TO_DRAW)
        with atomic_write(drawn) as temporary:
            temporary.touch()
    log(folder, "found")
    return toy_dataset()


def log(folder: Path, what: str) -> None:
    """Add a line to the log."""
    with (folder / "log").open("a") as file:
        file.write(f"{os.environ['RANK']} {what}\n")


def main(folder: Path) -> None:
    """Train."""
    torch.set_num_threads(1)
    few_iterations = patch("partedvae.training.evaluation.metrics.probes.SMALL_ITERATIONS", 5)
    with few_iterations, patch("partedvae.training.engine.run.load_dataset", load):
        train_run(tiny_config(epochs=1), RunDirectory(folder / "run"), folder, "cpu", resume=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
