"""Write many small PNG files into nested folders, to measure how fast a folder is listed and extracted.

    python scripts/make_small_images.py build/small-images --count 200000

The files are grey noise of 28x28 pixels, a hundred per folder and a hundred folders per folder above; a few hundred
different ones, since drawing them takes longer than writing.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image

DIFFERENT = 500


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description="Write many small PNG files into nested folders.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--side", type=int, default=28, help="height and width in pixels")
    arguments = parser.parse_args()
    random = np.random.Generator(np.random.PCG64(0))
    files = []
    for _ in range(min(DIFFERENT, arguments.count)):
        file = io.BytesIO()
        pixels = random.integers(0, 256, (arguments.side, arguments.side), dtype=np.uint8)
        Image.fromarray(pixels).save(file, "PNG")
        files.append(file.getvalue())
    for first in range(0, arguments.count, 100):
        folder = arguments.folder / f"{first // 10_000:05}" / f"{first // 100 % 100:02}"
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(first, min(first + 100, arguments.count)):
            (folder / f"{number:08}.png").write_bytes(files[number % len(files)])


if __name__ == "__main__":
    main()
