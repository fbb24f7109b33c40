"""`partedvae serve` with a gate in front of the encoder, for tests of what happens during a large request.

Usage: python -m tests.serving.gated_server FOLDER MODELS_DIR [OPTIONS]

A batch of ten or more images says that it arrived with the file FOLDER/entered, and waits for the file FOLDER/open.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from partedvae.results import FloatArray, ImageArray
from partedvae.serving.cli import serve
from partedvae.serving.onnx.model import OnnxModel
from tests.processes import wait_until

LARGE = 10


def main() -> None:
    """Install the gate and serve."""
    folder = Path(sys.argv.pop(1))
    encode = OnnxModel.encode

    def gated(self: OnnxModel, images: ImageArray, outputs: Sequence[str]) -> dict[str, FloatArray]:
        if len(images) >= LARGE:
            (folder / "entered").touch()
            wait_until((folder / "open").exists)
        return encode(self, images, outputs)

    OnnxModel.encode = gated  # type: ignore[method-assign]  # that is the point
    serve()


if __name__ == "__main__":
    main()
