"""Ray Data as its documentation shows it: read_images, map_batches with an actor per processor, write_parquet.

python -m benchmarks.extract.programs.ray_data BUNDLE FOLDER OUTPUT
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click
import numpy as np
import ray

from benchmarks.extract.programs.timing import Stopwatch, image_size, output_names
from partedvae.common.cpus import available_cpus
from partedvae.serving.bundle import load_bundle
from partedvae.serving.onnx_runtime import ort

BATCH = 256


class Extract:
    """An actor with a session."""

    def __init__(self, bundle_folder: str) -> None:
        """Open the session."""
        bundle = load_bundle(Path(bundle_folder))
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(bundle.encoder_path, options, providers=["CPUExecutionProvider"])
        self._outputs, self._size = output_names(bundle), image_size(bundle)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the features of a batch."""
        images = np.ascontiguousarray(batch["image"]).reshape(-1, *self._size)
        columns: dict[str, Any] = {"path": batch["path"]}
        for name, values in zip(self._outputs, self._session.run(self._outputs, {"images": images}), strict=True):
            columns |= {f"{name}{j}": values[:, j] for j in range(values.shape[1])}
        return columns


@click.command()
@click.argument("bundle_folder", type=Path)
@click.argument("folder", type=Path)
@click.argument("output", type=Path)
def main(bundle_folder: Path, folder: Path, output: Path) -> None:
    """Write the features of a folder into a folder of Parquet files."""
    height, width, channels = image_size(load_bundle(bundle_folder))
    ray.init(num_cpus=available_cpus(), logging_level=logging.ERROR, include_dashboard=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    watch = Stopwatch()
    images = ray.data.read_images(
        str(folder), size=(height, width), mode="L" if channels == 1 else "RGB", include_paths=True
    )
    features = images.map_batches(
        Extract, fn_constructor_args=[str(bundle_folder)], batch_size=BATCH, concurrency=1, num_cpus=1
    )
    features.write_parquet(str(output))
    watch.report(sum(1 for path in folder.rglob("*") if path.is_file()))


if __name__ == "__main__":
    main()
