"""ONNX Runtime alone: the graphs of an extraction on an array in memory, whose results are dropped.

python -m benchmarks.extract.programs.ort_alone BUNDLE IDX [--familiarity]
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from benchmarks.extract.programs.timing import Stopwatch, image_size, output_names, read_idx
from partedvae.common.cpus import available_cpus
from partedvae.serving.bundle import NEGATIVE_ELBO, load_bundle
from partedvae.serving.onnx.model import OnnxModel


@click.command()
@click.argument("bundle_folder", type=Path)
@click.argument("idx", type=Path)
@click.option("--familiarity", is_flag=True, help="Run the scorer as well.")
@click.option("--rows", default=64, show_default=True, help="Images per run.")
def main(bundle_folder: Path, idx: Path, familiarity: bool, rows: int) -> None:
    """Run one thread per processor, which share a session with one thread per run: the fastest way, see bench-onnx."""
    bundle = load_bundle(bundle_folder)
    model = OnnxModel.load(bundle, "cpu", threads=1)
    model.warm_up()
    images, outputs = read_idx(idx, *image_size(bundle)[:2]), output_names(bundle)

    def run(start: int) -> None:
        model.encode(images[start : start + rows], outputs)
        if familiarity:
            model.score(images[start : start + rows], [NEGATIVE_ELBO])

    watch = Stopwatch()
    with ThreadPoolExecutor(available_cpus()) as threads:
        for _ in threads.map(run, range(0, len(images), rows)):
            pass
    watch.report(len(images))


if __name__ == "__main__":
    main()
