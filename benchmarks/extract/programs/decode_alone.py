"""Decoding and resizing alone, with Pillow, whose results are dropped.

python -m benchmarks.extract.programs.decode_alone BUNDLE FOLDER
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import click

from benchmarks.extract.programs.timing import Stopwatch, decode, image_size, list_files
from partedvae.common.cpus import available_cpus
from partedvae.serving.bundle import load_bundle

FILES_PER_TASK = 256


@click.command()
@click.argument("bundle_folder", type=Path)
@click.argument("folder", type=Path)
def main(bundle_folder: Path, folder: Path) -> None:
    """Decode in one thread per processor."""
    one = partial(decode, size=image_size(load_bundle(bundle_folder)))
    watch = Stopwatch()
    files = list_files(folder)

    def decode_some(start: int) -> None:
        for path in files[start : start + FILES_PER_TASK]:
            one(path)

    with ThreadPoolExecutor(available_cpus()) as threads:
        for _ in threads.map(decode_some, range(0, len(files), FILES_PER_TASK)):
            pass
    watch.report(len(files))


if __name__ == "__main__":
    main()
