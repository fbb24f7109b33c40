"""Benchmark of training: images per second of each MNIST recipe; run by `make bench`."""

from __future__ import annotations

import json
import math
import platform
import time
from pathlib import Path
from typing import Any

import click
import torch

from partedvae.common.atomic_write import write_json
from partedvae.training.config.recipes import RECIPES, recipe
from partedvae.training.data import mnist
from partedvae.training.data.dataset import first_labelled
from partedvae.training.data.registry import load_dataset
from partedvae.training.distributed import launch
from partedvae.training.engine.device import choose_device, prepare
from partedvae.training.engine.trainer import Trainer

WARM_UP = 0.15
"""Steps before the measurement, relative to the measured ones."""


@click.command()
@click.option("--output", type=click.Path(path_type=Path), required=True, help="JSON file to write.")
@click.option(
    "--data",
    "data_dir",
    type=click.Path(path_type=Path),
    default=Path("data"),
    show_default=True,
    help="Folder of the data sets.",
)
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where to train."
)
@click.option("--steps", type=click.IntRange(min=1), default=200, show_default=True, help="Measured steps per recipe.")
def main(output: Path, data_dir: Path, device: str, steps: int) -> None:
    """Measure the throughput of training with each MNIST recipe. Run nothing else meanwhile."""
    context = launch(choose_device(device), "32-true")
    prepare(seed=0)
    dataset = load_dataset("mnist", data_dir)
    result: dict[str, Any] = {
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "device": str(context.device),
        "recipes": {},
    }
    for name in RECIPES["mnist"]:
        config = recipe(mnist.INFO, name)
        trainer = Trainer(config, dataset.train, first_labelled(dataset.train, config.labels), context)
        for _ in range(math.ceil(WARM_UP * steps)):
            trainer.train_step()
        started = time.perf_counter()
        for _ in range(steps):
            losses = trainer.train_step()
        # Reading a value waits until a GPU has finished.
        losses["loss"].item()
        seconds = time.perf_counter() - started
        result["recipes"][name] = {
            "batch_size": config.batch_size,
            "images_per_second": round(steps * config.batch_size / seconds, 1),
        }
    output.parent.mkdir(parents=True, exist_ok=True)
    write_json(output, result)
    click.echo(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
