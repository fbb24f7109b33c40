"""`partedvae serve --front native` that once finds no memory for the calls that have arrived.

Usage: python -m tests.serving.grpc.native.failing_server FOLDER MODELS_DIR [OPTIONS]

It fails when the file FOLDER/fail exists, and removes it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from partedvae.serving.cli import serve
from partedvae.serving.grpc.native.front import NativeFront


def main() -> None:
    """Install the fault and serve."""
    fault = Path(sys.argv.pop(1), "fail")
    next_events = NativeFront._next_events

    def failing(self: NativeFront) -> Any:
        if fault.exists():
            fault.unlink()
            raise MemoryError
        return next_events(self)

    NativeFront._next_events = failing  # type: ignore[method-assign]  # that is the point
    serve()


if __name__ == "__main__":
    main()
