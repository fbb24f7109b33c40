"""A program for torchrun: a whole run on the toys, which are drawn the first time; FOLDER/log tells who drew them.

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
from partedvae.training.data.dataset import ImageDataset
from partedvae.training.engine.loop import train_run
from partedvae.training.runs.directory import RunDirectory
from tests.training.toys import tiny_config, toy_dataset

SECONDS_TO_DRAW = 1.0
"""Longer than one process can be behind another."""


def load(name: str, folder: Path) -> ImageDataset:
    """Stand in for the registry's `load_dataset`: draw what is missing, slowly, and tell so."""
    drawn = folder / "drawn"
    if not drawn.exists():
        tell(folder, "drew")
        time.sleep(SECONDS_TO_DRAW)
        with atomic_write(drawn) as temporary:
            temporary.touch()
    tell(folder, "found")
    return toy_dataset()


def tell(folder: Path, what: str) -> None:
    """Add a line to the log."""
    with (folder / "log").open("a") as file:
        file.write(f"{os.environ['RANK']} {what}\n")


def main(folder: Path) -> None:
    """Train."""
    torch.set_num_threads(1)
    with patch("partedvae.training.engine.loop.load_dataset", load):
        train_run(tiny_config(epochs=1), RunDirectory(folder / "run"), folder, "cpu", resume=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
