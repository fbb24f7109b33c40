"""Benchmark of training: images per second of each recipe of a data set; run by `make bench`."""

from __future__ import annotations

import json
import math
import platform
import time
from pathlib import Path
from typing import Any

import click

from benchmarks.options import output_option, write_results
from partedvae.common.click_paths import LocalPath
from partedvae.training.config.recipes import RECIPES, recipe
from partedvae.training.data.dataset import first_labelled
from partedvae.training.data.registry import load_dataset
from partedvae.training.distributed import launch
from partedvae.training.engine.device import choose_device, choose_precision, prepare
from partedvae.training.engine.threads import use_threads
from partedvae.training.engine.trainer import Trainer

WARM_UP = 0.15
"""Steps before the measurement, relative to the measured ones."""


@click.command()
@output_option()
@click.option(
    "--data",
    "data_dir",
    type=LocalPath(path_type=Path),
    default=Path("data"),
    show_default=True,
    help="Folder of the data sets.",
)
@click.option(
    "--dataset",
    "dataset_name",
    type=click.Choice([name for name in RECIPES if name != "folder"]),
    default="mnist",
    show_default=True,
    help="Data set to train on.",
)
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where to train."
)
@click.option("--steps", type=click.IntRange(min=1), default=200, show_default=True, help="Measured steps per recipe.")
def main(output: Path, data_dir: Path, dataset_name: str, device: str, steps: int) -> None:
    """Measure the throughput of training with each recipe of a data set. Run nothing else meanwhile."""
    dataset = load_dataset(dataset_name, data_dir)
    device = choose_device(device).type
    result: dict[str, Any] = {
        "machine": platform.machine(),
        "threads": use_threads().threads,
        "device": device,
        "dataset": dataset_name,
        "recipes": {},
    }
    for name in RECIPES[dataset_name]:
        config = recipe(dataset.info, name)
        context = launch(device, choose_precision(device, config.precision))
        prepare(seed=0)
        trainer = Trainer(config, dataset.train, first_labelled(dataset.train, config.labels), context)
        # The middle of the run: the first tenth of `default` has more supervised steps, and not all of its terms.
        trainer.step = trainer.total_steps // 2
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
            "precision": choose_precision(device, config.precision),
            "images_per_second": round(steps * config.batch_size / seconds, 1),
        }
    write_results(output, result)
    click.echo(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
